//! Isolation scenarios of the local runtime, one file per case of the isolation contract.
//!
//! Each case tries an attack inside a default sandbox, checks from outside that nothing happened, and
//! shows the same attempt succeeding (or reaching the kernel) in a sandbox without the layer in question.

#[cfg(test)]
mod by_rules;
#[cfg(test)]
mod c01_missing_layers;
#[cfg(test)]
mod c01_of_users;
#[cfg(test)]
mod c02_missing_host_parts;
#[cfg(test)]
mod c03_rule_load;
#[cfg(test)]
mod c05_doctor;
#[cfg(test)]
mod c06_limits;
#[cfg(test)]
mod census;
#[cfg(test)]
mod e01_capabilities;
#[cfg(test)]
mod e02_kernel_settings;
#[cfg(test)]
mod e03_cgroups;
#[cfg(test)]
mod e04_devices;
#[cfg(test)]
mod e05_read_only_mounts;
#[cfg(test)]
mod e06_runtime_binary;
#[cfg(test)]
mod e07_descriptors;
#[cfg(test)]
mod e08_working_folder;
#[cfg(test)]
mod e09_swapped_names;
#[cfg(test)]
mod e10_other_processes;
#[cfg(test)]
mod e11_kernel_doors;
#[cfg(test)]
mod e12_sockets;
#[cfg(test)]
mod e13_host_sockets;
#[cfg(test)]
mod e14_terminals;
#[cfg(test)]
mod e15_hostile_inside;
#[cfg(test)]
mod e15_hostile_shells;
#[cfg(test)]
mod e16_other_conventions;
#[cfg(test)]
mod e17_hidden_flags;
#[cfg(test)]
mod e18_signals;
#[cfg(test)]
mod e19_host_facts;
#[cfg(test)]
mod e19_neighbours;
#[cfg(test)]
mod e20_clocks;
#[cfg(test)]
mod f01_paths;
#[cfg(test)]
mod f02_links;
#[cfg(test)]
mod f03_races;
#[cfg(test)]
mod f04_hard_links;
#[cfg(test)]
mod f05_odd_files;
#[cfg(test)]
mod f08_names;
#[cfg(test)]
mod f09_changing_files;
#[cfg(test)]
mod f10_kernel_folders;
#[cfg(test)]
mod f11_full_disk;
#[cfg(test)]
mod f12_search;
#[cfg(test)]
mod harness;
#[cfg(test)]
mod internet;
#[cfg(test)]
mod internet_ground;
#[cfg(test)]
mod l01_processes;
#[cfg(test)]
mod l01_reopen;
#[cfg(test)]
mod l02_cycles;
#[cfg(test)]
mod l02_many_alive;
#[cfg(test)]
mod l03_foreign_numbers;
#[cfg(test)]
mod l05_destroy;
#[cfg(test)]
mod l12_full;
#[cfg(test)]
mod n01_metadata;
#[cfg(test)]
mod n02_host;
#[cfg(test)]
mod n05_domains;
#[cfg(test)]
mod n07_protocols;
#[cfg(test)]
mod n09_live;
#[cfg(test)]
mod n11_ports;
#[cfg(test)]
mod n14_inbound;
#[cfg(test)]
mod namespaces;
#[cfg(test)]
mod outside;
mod prelude;
#[cfg(test)]
mod r01_fork_bomb;
#[cfg(test)]
mod r02_memory;
#[cfg(test)]
mod r03_disk;
#[cfg(test)]
mod r04_descriptors;
#[cfg(test)]
mod r04_shared_counters;
#[cfg(test)]
mod r05_output;
#[cfg(test)]
mod r05_streams;
#[cfg(test)]
mod r06_cpu;
#[cfg(test)]
mod r07_orphans;
#[cfg(test)]
mod r07_sessions;
#[cfg(test)]
mod r08_stubborn;
#[cfg(test)]
mod r09_small_files;
#[cfg(test)]
mod r10_many;
#[cfg(test)]
mod staying;
#[cfg(test)]
mod volumes;
