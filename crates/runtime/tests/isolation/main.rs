//! Isolation scenarios of the local runtime, one file per case of the isolation contract.
//!
//! Each case tries an attack inside a default sandbox, checks from outside that nothing happened, and
//! shows the same attempt succeeding (or reaching the kernel) in a sandbox without the layer in question.

mod census;
mod harness;

mod c01_missing_layers;
mod c02_missing_host_parts;
mod c05_doctor;
mod c06_limits;
mod e01_capabilities;
mod e02_kernel_settings;
mod e03_cgroups;
mod e04_devices;
mod e05_read_only_mounts;
mod e06_runtime_binary;
mod e07_descriptors;
mod e08_working_folder;
mod e09_swapped_names;
mod e10_other_processes;
mod e11_kernel_doors;
mod e12_sockets;
mod e13_host_sockets;
mod e15_hostile_inside;
mod e16_other_conventions;
mod e17_hidden_flags;
mod e18_signals;
mod e19_host_facts;
mod e19_neighbours;
mod e20_clocks;
mod f01_paths;
mod f02_links;
mod f03_races;
mod f04_hard_links;
mod f05_odd_files;
mod f08_names;
mod f09_changing_files;
mod f10_kernel_folders;
mod f11_full_disk;
mod f12_search;
mod l01_reopen;
mod l02_cycles;
mod l03_foreign_numbers;
mod l05_destroy;
mod l12_full;
mod prelude;
mod r01_fork_bomb;
mod r02_memory;
mod r03_disk;
mod r04_descriptors;
mod r04_shared_counters;
mod r05_output;
mod r06_cpu;
mod r07_orphans;
mod r08_stubborn;
mod r09_small_files;
mod r10_many;
