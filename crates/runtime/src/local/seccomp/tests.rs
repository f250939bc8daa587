//! The compiled policy against an independent compiler, and against the cases it exists for.

use std::collections::BTreeMap;

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch,
};

use super::machine::{Call, run};
use super::*;

const BOTH: [Architecture; 2] = [Architecture::X86_64, Architecture::Aarch64];
const ALLOWED: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;
const ENOSYS: u32 = 0x0005_0026;

fn number(architecture: Architecture, name: &str) -> Option<u32> {
    architecture.table().iter().find_map(|(first, names)| {
        let place = names.split_whitespace().position(|known| known == name)?;
        Some(first + u32::try_from(place).unwrap())
    })
}

fn verdict(architecture: Architecture, name: &str, arguments: &[u64]) -> u32 {
    let number = number(architecture, name).unwrap();
    let mut all = [0; 6];
    all[..arguments.len()].copy_from_slice(arguments);
    let call = Call { architecture: architecture.audit(), number, arguments: all };
    run(&compile(&filter(architecture)), &call)
}

fn when(argument: u8, operator: SeccompCmpOp, value: u64) -> SeccompCondition {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value).unwrap()
}

fn conditions(name: &str) -> Vec<SeccompRule> {
    use SeccompCmpOp::{Eq, MaskedEq, Ne};
    let any = |alternatives: Vec<Vec<SeccompCondition>>| {
        alternatives.into_iter().map(|all| SeccompRule::new(all).unwrap()).collect()
    };
    let device = |argument| {
        (0..16)
            .filter(|kind| ![2, 6].contains(kind))
            .map(|kind| vec![when(argument, MaskedEq(0xf000), kind << 12)])
            .collect()
    };
    match name {
        "clone" => any(vec![vec![when(0, MaskedEq(0x7e02_0000), 0)]]),
        "socketpair" => any(vec![vec![when(0, Eq, 1)]]),
        "personality" => any([0, 8, 0x20000, 0x20008, 0x40000, 0xffff_ffff]
            .map(|value| vec![when(0, Eq, value)])
            .to_vec()),
        "ioctl" => any(vec![vec![when(1, Ne, 0x5412), when(1, Ne, 0x541c), when(1, Ne, 0x5423)]]),
        "mknod" => any(device(1)),
        "mknodat" => any(device(2)),
        "socket" => {
            let mut rules = vec![vec![when(0, Eq, 1)], vec![when(0, Eq, 16), when(2, Eq, 0)]];
            for family in [2, 10] {
                for (kind, protocol) in [(1, 0), (1, 6), (2, 0), (2, 17)] {
                    let kind = when(1, MaskedEq(0xf), kind);
                    rules.push(vec![when(0, Eq, family), kind, when(2, Eq, protocol)]);
                }
            }
            any(rules)
        }
        _ => Vec::new(),
    }
}

/// The same allow-list through seccompiler, which knows one refusal per filter: killing.
fn oracle(architecture: Architecture) -> Vec<Instruction> {
    let mut allowed = BTreeMap::new();
    for (name, rule) in policy::rules() {
        let Some(number) = number(architecture, name) else { continue };
        match rule {
            Rule::Always(Action::Allow) => allowed.insert(i64::from(number), Vec::new()),
            Rule::Always(Action::Errno(_)) => None,
            Rule::Switch(_) => allowed.insert(i64::from(number), conditions(name)),
        };
    }
    let target = match architecture {
        Architecture::X86_64 => TargetArch::x86_64,
        Architecture::Aarch64 => TargetArch::aarch64,
    };
    let refuse = SeccompAction::KillProcess;
    let filter = SeccompFilter::new(allowed, refuse, SeccompAction::Allow, target).unwrap();
    let program: BpfProgram = filter.try_into().unwrap();
    let copy = |from: &seccompiler::sock_filter| Instruction {
        code: from.code,
        jt: from.jt,
        jf: from.jf,
        k: from.k,
    };
    program.iter().map(copy).collect()
}

#[test]
fn verdicts_equal_those_of_an_independent_compiler() {
    const VALUES: [u64; 26] = [
        0,
        1,
        2,
        3,
        5,
        6,
        8,
        10,
        16,
        17,
        40,
        132,
        0x1000,
        0x2000,
        0x21b6,
        0x5412,
        0x541c,
        0x5423,
        0x6000,
        0x8000,
        0x2_0000,
        0x2_0008,
        0x4_0000,
        0x1000_0000,
        0x80002,
        0xffff_ffff,
    ];
    for architecture in BOTH {
        let (ours, theirs) = (compile(&filter(architecture)), oracle(architecture));
        let same = |number, arguments| {
            for audit in [architecture.audit(), 0x4000_0003, 0x4000_0028] {
                let call = Call { architecture: audit, number, arguments };
                let verdicts = (run(&ours, &call), run(&theirs, &call));
                assert_eq!(verdicts.0 == ALLOWED, verdicts.1 == ALLOWED, "{call:x?} {verdicts:x?}");
            }
        };
        let judged: Vec<_> = policy::rules()
            .into_iter()
            .filter(|(_, rule)| matches!(rule, Rule::Switch(_)))
            .filter_map(|(name, _)| number(architecture, name))
            .collect();
        for number in (0..600).chain([0x3fff_ffff, 0x4000_0000, 0x4000_0010, u32::MAX]) {
            same(number, [0; 6]);
            same(number, [u64::MAX; 6]);
            for first in VALUES.into_iter().filter(|_| judged.contains(&number)) {
                for second in VALUES {
                    for third in VALUES {
                        same(number, [first, second, third, 0, 0, 0]);
                        same(number, [first | 1 << 32, second | 1 << 33, third | 1 << 63, 0, 0, 0]);
                    }
                }
            }
        }
    }
}

#[test]
fn the_program_is_small_enough_to_load_quickly() {
    for architecture in BOTH {
        let length = compile(&filter(architecture)).len();
        assert!(length <= 260, "{architecture:?} takes {length} instructions");
        assert!(oracle(architecture).len() > 4 * length, "the tree saves nothing over a list");
    }
}

#[test]
fn numbers_agree_with_the_headers_at_both_ends() {
    let known = [
        (Architecture::X86_64, "read", 0),
        (Architecture::X86_64, "clone", 56),
        (Architecture::X86_64, "rseq", 334),
        (Architecture::X86_64, "pidfd_send_signal", 424),
        (Architecture::X86_64, "file_setattr", 469),
        (Architecture::Aarch64, "io_setup", 0),
        (Architecture::Aarch64, "clone", 220),
        (Architecture::Aarch64, "accept4", 242),
        (Architecture::Aarch64, "kexec_file_load", 294),
        (Architecture::Aarch64, "file_setattr", 469),
    ];
    for (architecture, name, expected) in known {
        assert_eq!(number(architecture, name), Some(expected), "{architecture:?} {name}");
    }
}

#[test]
fn e16_foreign_and_x32_calls_are_refused_even_when_the_number_is_allowed() {
    let program = compile(&filter(Architecture::X86_64));
    let call = |architecture, number| Call { architecture, number, arguments: [0; 6] };
    assert_eq!(run(&program, &call(0xc000_003e, 39)), ALLOWED);
    assert_eq!(run(&program, &call(0xc000_003e, 0x4000_0000 + 39)), ENOSYS);
    assert_eq!(run(&program, &call(0x4000_0003, 20)), ENOSYS);
}

#[test]
fn e17_namespace_flags_have_one_verdict_in_every_disguise() {
    for architecture in BOTH {
        for bit in [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 1 << 28, 1 << 29, 1 << 30] {
            assert_eq!(verdict(architecture, "clone", &[bit | 0x11]), EPERM);
            assert_eq!(verdict(architecture, "clone", &[bit | 0x11 | 1 << 40]), EPERM);
        }
        assert_eq!(verdict(architecture, "clone", &[17]), ALLOWED);
        assert_eq!(verdict(architecture, "clone", &[0x003d_0f00]), ALLOWED, "a thread");
        assert_eq!(verdict(architecture, "clone3", &[]), ENOSYS);
        assert_eq!(verdict(architecture, "unshare", &[]), EPERM);
        assert_eq!(verdict(architecture, "setns", &[]), EPERM);
    }
}

#[test]
fn e12_only_unix_tcp_udp_and_route_netlink_sockets_are_made() {
    for architecture in BOTH {
        let socket =
            |family, kind, protocol| verdict(architecture, "socket", &[family, kind, protocol]);
        for family in [2, 10] {
            assert_eq!(socket(family, 1 | 0x80800, 0), ALLOWED);
            assert_eq!(socket(family, 2, 17), ALLOWED);
            assert_eq!(socket(family, 3, 1), EPERM, "raw");
            assert_eq!(socket(family, 3 | 0x80000, 255), EPERM, "raw with flags");
            assert_eq!(socket(family, 10, 768), EPERM, "old packet type");
            assert_eq!(socket(family, 1, 132), 0x0005_005d, "SCTP");
        }
        assert_eq!(socket(1, 5, 0), ALLOWED);
        assert_eq!(socket(16, 3, 0), ALLOWED);
        assert_eq!(socket(16, 3, 12), 0x0005_005d, "netfilter");
        for family in [15, 17, 21, 38, 40, 44] {
            assert_eq!(socket(family, 1, 0), 0x0005_0061);
        }
    }
}

#[test]
fn e14_terminal_injection_is_refused_however_the_upper_half_is_set() {
    for architecture in BOTH {
        for request in [0x5412, 0x541c, 0x5423] {
            assert_eq!(verdict(architecture, "ioctl", &[0, request]), EPERM);
            assert_eq!(verdict(architecture, "ioctl", &[0, request | 1 << 32]), EPERM);
        }
        assert_eq!(verdict(architecture, "ioctl", &[0, 0x5413]), ALLOWED);
    }
}

#[test]
fn e4_devices_are_not_made_but_pipes_are() {
    for architecture in BOTH {
        for kind in [0x2000, 0x6000] {
            assert_eq!(verdict(architecture, "mknodat", &[0, 0, kind | 0o666]), EPERM);
        }
        assert_eq!(verdict(architecture, "mknodat", &[0, 0, 0x1000 | 0o666]), ALLOWED);
    }
    assert_eq!(verdict(Architecture::X86_64, "mknod", &[0, 0x6000]), EPERM);
}

#[test]
fn e11_e20_dangerous_calls_are_refused() {
    for architecture in BOTH {
        for name in "bpf io_uring_setup userfaultfd keyctl perf_event_open kexec_load init_module \
                     open_by_handle_at quotactl reboot mount pivot_root settimeofday clock_adjtime"
            .split_whitespace()
        {
            assert_eq!(verdict(architecture, name, &[]), EPERM, "{name}");
        }
    }
}
