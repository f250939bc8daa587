//! Attributes that turn functions into actions and agents of `mayfly-flow`, which re-exports them.
