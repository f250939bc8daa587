//! Automatic ends of phases: which there are and how long they may be.

/// Most minutes of a timer: ten years.
pub const MAX_MINUTES: u32 = 10 * 366 * 24 * 60;
/// Most minutes stopped until it is archived: 30 days; `0` asks for this.
pub const MAX_AUTO_ARCHIVE: u32 = 30 * 24 * 60;

/// Which timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Timer {
    /// Idle until stopped.
    AutoStop,
    /// Idle until paused.
    AutoPause,
    /// Stopped until archived.
    AutoArchive,
    /// Stopped until deleted; negative = never.
    AutoDelete,
    /// Until deleted, in any state; setting it counts anew.
    Ttl,
}

impl Timer {
    /// The contract's name of its field.
    pub const fn field(self) -> &'static str {
        match self {
            Self::AutoStop => "autoStopInterval",
            Self::AutoPause => "autoPauseInterval",
            Self::AutoArchive => "autoArchiveInterval",
            Self::AutoDelete => "autoDeleteInterval",
            Self::Ttl => "ttlMinutes",
        }
    }
}
