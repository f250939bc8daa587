//! The network of sandboxes: one process judges, relays and audits what leaves all of them (ADR 0008).
//!
//! ```text
//! kit made     -> ADD under a random key, blocked          (off the path of a create)
//! create       -> ASSIGN: the sandbox's key and its policy, answered before anything can run inside
//! set_network  -> SET_POLICY                               end -> REMOVE
//! process dead -> another, told everything again           next server -> takes the process over
//! ```

mod audit;
mod lender;
mod options;
mod policy;
mod process;
mod shard;
mod steering;

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use mayfly_core::id::SandboxId;
use mayfly_core::network::{AuditPage, NetworkPolicy};
use mayfly_core::ports::runtime::{Layer, LayerState, Notice, Traffic};
use mayfly_core::{Error, Kind, Result};
use mayfly_net::control::SandboxId as Key;
use tokio::sync::mpsc;
use uuid::Uuid;

pub(super) use lender::Lender;
pub use options::NetworkOptions;
use process::{Program, missing};
use shard::{Member, Pending, Shard};

/// Namespaces of one process.
const CAPACITY: usize = 4_000;
/// Processes at most: sandboxes are fewer than they can hold.
const MAX_SHARDS: usize = 16;

/// Why sandboxes of this runtime have no network of their own.
#[derive(Debug)]
pub(super) enum Lack {
    /// Left out for a test.
    Weakened,
    /// The host offers no way to steer: the reasons.
    Root(String),
    /// The host offers ordinary users none: the reasons. Their sandboxes are whole without.
    User(String),
}

impl Lack {
    fn error(&self) -> Error {
        match self {
            Self::Weakened => missing("it was left out", "ask for networkBlockAll"),
            Self::Root(reason) => missing(
                reason,
                "use Linux 5.9 or newer with CONFIG_BPF_SYSCALL and let root load BPF programs, or a kernel \
                 with CONFIG_NFT_TPROXY; or ask for networkBlockAll",
            ),
            Self::User(reason) => missing(
                reason,
                "use a kernel with CONFIG_NF_TABLES_INET and CONFIG_NFT_TPROXY, load the modules nf_tables and \
                 nft_tproxy, or run the server as root; or ask for networkBlockAll",
            ),
        }
    }
}

/// The network of all sandboxes of a runtime.
#[derive(Debug)]
pub(super) struct Network {
    options: NetworkOptions,
    audit: PathBuf,
    ground: Ground,
}

#[derive(Debug)]
enum Ground {
    Missing(Lack),
    Here { program: Arc<Program>, shards: Mutex<Vec<Running>>, notices: mpsc::Sender<Notice> },
}

#[derive(Debug)]
struct Running {
    shard: Arc<Shard>,
    attendant: Option<JoinHandle<()>>,
}

/// A policy that is being put in force.
#[derive(Debug)]
#[must_use]
pub(super) struct Coming(Option<Pending>);

impl Coming {
    /// Waits until it is.
    pub(super) fn wait(self) -> Result<()> {
        self.0.map_or(Ok(()), Pending::wait)
    }
}

impl Network {
    /// Takes over the processes that an earlier server left, with these running sandboxes; nothing but what
    /// they were told before passes until they are told anew.
    pub(super) fn open(
        options: NetworkOptions,
        (run, audit): (&Path, PathBuf),
        (is_root, is_left_out): (bool, bool),
        adopted: Vec<(SandboxId, i32, Arc<OwnedFd>)>,
        notices: mpsc::Sender<Notice>,
    ) -> Result<Self> {
        let options = options.completed();
        let without = |options, audit, lack| Self { options, audit, ground: Ground::Missing(lack) };
        if is_left_out {
            return Ok(without(options, audit, Lack::Weakened));
        }
        let program = match Program::new((run, audit.clone()), &options, is_root)? {
            Ok(program) => Arc::new(program),
            Err(reason) => {
                let lack = if is_root { Lack::Root(reason) } else { Lack::User(reason) };
                return Ok(without(options, audit, lack));
            }
        };
        let mut unclaimed: HashMap<Key, Member> = adopted
            .into_iter()
            .map(|(id, pid, pidfd)| (key(id), Member::waiting(pid, pidfd)))
            .collect();
        let mut shards = Vec::new();
        let count = program.left().max(1);
        for number in 0..count {
            // The last one takes those that nobody holds.
            let is_last = number + 1 == count;
            let claim = |held: &[Key]| {
                if is_last {
                    return std::mem::take(&mut unclaimed);
                }
                held.iter().filter_map(|key| unclaimed.remove_entry(key)).collect()
            };
            let opened = Shard::open(number, &program, claim)?;
            shards.push(attended(opened, notices.clone())?);
        }
        let ground = Ground::Here { program, shards: Mutex::new(shards), notices };
        Ok(Self { options, audit, ground })
    }

    /// Takes charge of the namespace of a kit, which stays closed; the key under which it waits. Nothing
    /// where sandboxes have no network.
    pub(super) fn prepare(&self, pid: i32, pidfd: &Arc<OwnedFd>) -> Result<Option<Key>> {
        let Ground::Here { program, shards, notices } = &self.ground else { return Ok(None) };
        let key = *Uuid::now_v7().as_bytes();
        let member = || Member::waiting(pid, Arc::clone(pidfd));
        // One at a time: the lock is held by makers of kits only for as long as a process takes to answer.
        let known: Vec<Arc<Shard>> = all(&lock(shards));
        for shard in &known {
            if shard.add(key, member())? {
                return Ok(Some(key));
            }
        }
        let mut shards = lock(shards);
        if shards.len() == known.len() && shards.len() < MAX_SHARDS {
            let opened = Shard::open(shards.len(), program, |_| HashMap::new())?;
            shards.push(attended(opened, notices.clone())?);
        }
        let newest = shards.last().map(|running| Arc::clone(&running.shard));
        drop(shards);
        match newest {
            Some(shard) if shard.add(key, member())? => Ok(Some(key)),
            _ => Err(Error::new(Kind::Limit, "all network processes are full")
                .with_hint("delete sandboxes")),
        }
    }

    /// The text of a policy; [`Kind::Unavailable`] when it asks for a network and there is none.
    pub(super) fn text(&self, policy: &NetworkPolicy) -> Result<String> {
        match &self.ground {
            Ground::Missing(lack @ (Lack::Root(_) | Lack::User(_))) if !policy.block_all => {
                Err(lack.error())
            }
            _ => policy::text(policy, &self.options),
        }
    }

    /// Makes the namespace of a kit a sandbox's, under a policy's text.
    pub(super) fn assign(&self, kit: Option<Key>, id: SandboxId, text: &str) -> Result<Coming> {
        let Some(kit) = kit else { return Ok(Coming(None)) };
        let assigned = self.shards().iter().find_map(|shard| shard.assign(kit, key(id), text));
        assigned.map(|pending| Coming(Some(pending))).ok_or_else(|| {
            Error::new(Kind::Internal, format!("the network of sandbox {id} is not there"))
        })
    }

    /// Changes the policy of a running sandbox; nothing of one that does not run.
    pub(super) fn set(&self, id: SandboxId, policy: &NetworkPolicy) -> Result<()> {
        let text = self.text(policy)?;
        let pending = self.shards().iter().find_map(|shard| shard.set(key(id), &text));
        Coming(pending).wait()
    }

    /// Lets go of a kit's namespace.
    pub(super) fn remove_kit(&self, kit: Option<Key>) {
        if let Some(kit) = kit {
            let _ = self.shards().iter().any(|shard| shard.remove(kit));
        }
    }

    /// Lets go of a sandbox's namespace.
    pub(super) fn remove(&self, id: SandboxId) {
        self.remove_kit(Some(key(id)));
    }

    /// Deletes the audit of a sandbox that is gone.
    pub(super) fn forget(&self, id: SandboxId) {
        if audit::exists(&self.audit, &key(id)) {
            // The last lines are written when the process lets go of it.
            for shard in self.shards() {
                let _ = shard.flush();
            }
            audit::delete(&self.audit, &key(id));
        }
    }

    /// A page of the audit of a sandbox.
    pub(super) fn audit(
        &self,
        id: SandboxId,
        after: Option<&str>,
        limit: usize,
    ) -> Result<AuditPage> {
        audit::read(&self.audit, &key(id), after, limit)
    }

    /// What all processes counted since they were started.
    pub(super) fn traffic(&self) -> Result<Traffic> {
        let mut sum = Traffic::default();
        for shard in self.shards() {
            let text = shard.counters()?;
            let words: Vec<&str> = text.split(' ').collect();
            let count = |name: &str| {
                let pair = words.chunks_exact(2).find(|pair| pair[0] == name);
                pair.and_then(|pair| pair[1].parse::<u64>().ok()).unwrap_or(0)
            };
            sum.connections += count("connections");
            sum.allowed += count("allowed");
            sum.denied += count("denied");
            sum.audit_lost += count("audit-lost");
        }
        Ok(sum)
    }

    /// Lets go of the processes; those that hold no sandbox are ended.
    pub(super) fn close(&self) {
        let Ground::Here { shards, .. } = &self.ground else { return };
        for running in &mut *lock(shards) {
            running.shard.close();
            if let Some(attendant) = running.attendant.take() {
                let _ = attendant.join();
            }
        }
    }

    /// The line of `doctor`.
    pub(super) fn layer(&self) -> Layer {
        let name = "network".to_owned();
        match &self.ground {
            Ground::Here { program, .. } => Layer {
                name,
                state: LayerState::Holds,
                required: true,
                evidence: format!("the network process answers, {}", program.steering.told()),
                remedy: None,
            },
            Ground::Missing(lack) => {
                let error = lack.error();
                Layer {
                    name,
                    state: LayerState::Absent,
                    required: matches!(lack, Lack::Root(_)),
                    evidence: error.message().to_owned(),
                    remedy: error.hint().map(str::to_owned),
                }
            }
        }
    }

    /// Whether sandboxes have a network.
    pub(super) fn is_here(&self) -> bool {
        matches!(self.ground, Ground::Here { .. })
    }

    /// The network processes, for tests that kill them.
    pub(super) fn pids(&self) -> Vec<i32> {
        self.shards().iter().filter_map(|shard| shard.pid()).collect()
    }

    fn shards(&self) -> Vec<Arc<Shard>> {
        match &self.ground {
            Ground::Missing(_) => Vec::new(),
            Ground::Here { shards, .. } => all(&lock(shards)),
        }
    }
}

fn lock(shards: &Mutex<Vec<Running>>) -> MutexGuard<'_, Vec<Running>> {
    shards.lock().unwrap_or_else(PoisonError::into_inner)
}

fn all(shards: &[Running]) -> Vec<Arc<Shard>> {
    shards.iter().map(|running| Arc::clone(&running.shard)).collect()
}

/// A thread that passes answers on and replaces the process when it dies.
fn attended(
    (shard, receiver): (Arc<Shard>, mayfly_net::client::Receiver),
    notices: mpsc::Sender<Notice>,
) -> Result<Running> {
    let attending = Arc::clone(&shard);
    let died = move |number: usize| {
        tracing::error!(number, "the network process ended; another one is started");
        let target = format!("network process {number} ended; another one was started");
        // With as many notices waiting this one tells nothing new.
        let _ = notices.try_send(Notice { rule: "network", target });
    };
    let attendant = std::thread::Builder::new()
        .name("mayfly-network".to_owned())
        .spawn(move || attending.attend(receiver, died))
        .map_err(|error| Error::internal("no thread for the network process", error))?;
    Ok(Running { shard, attendant: Some(attendant) })
}

fn key(id: SandboxId) -> Key {
    *id.as_uuid().as_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn without(lack: Lack) -> Network {
        let (options, audit) = (NetworkOptions::default(), PathBuf::new());
        Network { options, audit, ground: Ground::Missing(lack) }
    }

    #[test]
    fn c1_without_the_packet_filter_only_blocked_sandboxes_are_made() {
        let network = without(Lack::Root("sk_lookup: no such thing".to_owned()));
        let refused = network.text(&NetworkPolicy::default()).unwrap_err();
        assert_eq!(refused.kind(), Kind::Unavailable);
        for part in ["`network`", "sk_lookup"] {
            assert!(refused.message().contains(part), "{refused}");
        }
        assert!(refused.hint().is_some_and(|hint| hint.contains("networkBlockAll")));
        assert!(network.text(&NetworkPolicy::blocked()).is_ok());
        let layer = network.layer();
        assert_eq!((layer.state, layer.required), (LayerState::Absent, true));
        assert!(layer.remedy.is_some());
    }

    #[test]
    fn c1_ordinary_users_without_networks_are_told_so_and_are_whole() {
        let network = without(Lack::User("tproxy: no such thing".to_owned()));
        let refused = network.text(&NetworkPolicy::default()).unwrap_err();
        assert!(refused.message().contains("tproxy: no such thing"), "{refused}");
        assert!(network.set(SandboxId::from_uuid(Uuid::nil()), &NetworkPolicy::blocked()).is_ok());
        assert!(!network.layer().required);
        assert!(!network.is_here());
    }
}
