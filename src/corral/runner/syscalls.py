"""The system calls that a runner may not make, by what they would do. Data only; seccomp.py makes the filter of it.

Numbers are (x86_64, aarch64); None = the architecture has no such call. Source: asm/unistd.h of both, Linux 6.17.
"""

from __future__ import annotations

from collections.abc import Mapping

Numbers = tuple[int | None, int | None]

LAST_KNOWN = 469  # file_setattr; what later kernels add does not exist for a runner

# for every runner: nothing that an engine does needs one of these
ALWAYS: Mapping[str, Mapping[str, Numbers]] = {
    "talk to others": {
        "connect": (42, 203),
    },
    "look into other processes": {
        "ptrace": (101, 117),
        "process_vm_readv": (310, 270),
        "process_vm_writev": (311, 271),
        "process_madvise": (440, 440),
        "process_mrelease": (448, 448),
        "pidfd_open": (434, 434),
        "pidfd_getfd": (438, 438),
        "kcmp": (312, 272),
        "migrate_pages": (256, 238),
        "move_pages": (279, 239),
        "perf_event_open": (298, 241),
        "lookup_dcookie": (212, 18),
    },
    "signal other processes": {
        "tkill": (200, 130),
        "rt_sigqueueinfo": (129, 138),
        "rt_tgsigqueueinfo": (297, 240),
        "pidfd_send_signal": (424, 424),
    },
    "leave the process group, by which it is killed": {
        "setsid": (112, 157),
        "setpgid": (109, 154),
    },
    "change a file's mode, owner, times or attributes": {
        "chmod": (90, None),
        "fchmod": (91, 52),
        "fchmodat": (268, 53),
        "fchmodat2": (452, 452),
        "chown": (92, None),
        "fchown": (93, 55),
        "lchown": (94, None),
        "fchownat": (260, 54),
        "utime": (132, None),
        "utimes": (235, None),
        "futimesat": (261, None),
        "utimensat": (280, 88),
        "setxattr": (188, 5),
        "lsetxattr": (189, 6),
        "fsetxattr": (190, 7),
        "setxattrat": (463, 463),
        "removexattr": (197, 14),
        "lremovexattr": (198, 15),
        "fremovexattr": (199, 16),
        "removexattrat": (466, 466),
        "file_setattr": (469, 469),
        "mknod": (133, None),
        "mknodat": (259, 33),
        "quotactl": (179, 60),
        "quotactl_fd": (443, 443),
    },
    "keep memory that outlives it": {
        "shmget": (29, 194),
        "shmat": (30, 196),
        "shmctl": (31, 195),
        "msgget": (68, 186),
        "msgsnd": (69, 189),
        "msgrcv": (70, 188),
        "msgctl": (71, 187),
        "semget": (64, 190),
        "semop": (65, 193),
        "semtimedop": (220, 192),
        "semctl": (66, 191),
        "mq_open": (240, 180),
        "mq_unlink": (241, 181),
        "memfd_secret": (447, 447),
        "add_key": (248, 217),
        "request_key": (249, 218),
        "keyctl": (250, 219),
    },
    "watch what others do with files": {
        "inotify_init": (253, None),
        "inotify_init1": (294, 26),
        "fanotify_init": (300, 262),
        "name_to_handle_at": (303, 264),
        "open_by_handle_at": (304, 265),
        "syslog": (103, 116),
    },
    "mount, or enter namespaces": {
        "mount": (165, 40),
        "umount2": (166, 39),
        "pivot_root": (155, 41),
        "chroot": (161, 51),
        "open_tree": (428, 428),
        "open_tree_attr": (467, 467),
        "move_mount": (429, 429),
        "fsopen": (430, 430),
        "fsconfig": (431, 431),
        "fsmount": (432, 432),
        "fspick": (433, 433),
        "mount_setattr": (442, 442),
        "statmount": (457, 457),
        "listmount": (458, 458),
        "unshare": (272, 97),
        "setns": (308, 268),
    },
    "become another": {
        "setuid": (105, 146),
        "setgid": (106, 144),
        "setreuid": (113, 145),
        "setregid": (114, 143),
        "setresuid": (117, 147),
        "setresgid": (119, 149),
        "setfsuid": (122, 151),
        "setfsgid": (123, 152),
        "setgroups": (116, 159),
        "capset": (126, 91),
        "lsm_set_self_attr": (460, 460),
        "setrlimit": (160, 164),
    },
    "reach the kernel's rarely used parts": {
        "bpf": (321, 280),
        "userfaultfd": (323, 282),
        "io_uring_setup": (425, 425),  # its operations would pass by this filter
        "io_uring_enter": (426, 426),
        "io_uring_register": (427, 427),
        "init_module": (175, 105),
        "finit_module": (313, 273),
        "delete_module": (176, 106),
        "kexec_load": (246, 104),
        "kexec_file_load": (320, 294),
        "reboot": (169, 142),
        "swapon": (167, 224),
        "swapoff": (168, 225),
        "acct": (163, 89),
        "vhangup": (153, 58),
        "uselib": (134, None),
        "nfsservctl": (180, 42),
        "personality": (135, 92),
        "iopl": (172, None),
        "ioperm": (173, None),
        "modify_ldt": (154, None),
    },
    "set the host's clock or name": {
        "settimeofday": (164, 170),
        "clock_settime": (227, 112),
        "clock_adjtime": (305, 266),
        "adjtimex": (159, 171),
        "sethostname": (170, 161),
        "setdomainname": (171, 162),
    },
}  # fmt: skip

# what a GPU's driver may do, which keeps what it has compiled; an engine on the CPU does not
WITHOUT_DRIVER: Mapping[str, Numbers] = {
    "memfd_create": (319, 279),  # memory that no limit counts
    "mkdir": (83, None),
    "mkdirat": (258, 34),
    "rmdir": (84, None),
    "rename": (82, None),
    "renameat": (264, 38),
    "renameat2": (316, 276),
    "link": (86, None),
    "linkat": (265, 37),
    "symlink": (88, None),
    "symlinkat": (266, 36),
    "flock": (73, 32),
}

PROGRAMS: Mapping[str, Numbers] = {"execve": (59, 221), "execveat": (322, 281)}
PROCESSES: Mapping[str, Numbers] = {"fork": (57, None), "vfork": (58, None)}

# allowed with some arguments only: seccomp.py has the rules
SOCKET, SOCKETPAIR, SENDTO = (41, 198), (53, 199), (44, 206)
CLONE, CLONE3 = (56, 220), (435, 435)
KILL, TGKILL = (62, 129), (234, 131)
PRLIMIT, PRCTL, FCNTL, IOCTL, MMAP = (302, 261), (157, 167), (72, 25), (16, 29), (9, 222)
SETPRIORITY, IOPRIO_SET = (141, 140), (251, 30)
SCHEDULING = ((203, 122), (144, 119), (142, 118), (314, 274))  # sched_set{affinity,scheduler,param,attr}

# prctl options: PDEATHSIG, DUMPABLE, SECUREBITS, MM, CHILD_SUBREAPER, SCHED_CORE, PTRACER
DENIED_PRCTL = (1, 4, 28, 35, 36, 62, 0x59616D61)
# fcntl commands: SETOWN, SETSIG, SETOWN_EX (they send signals to others), SETLEASE, NOTIFY, SETPIPE_SZ
DENIED_FCNTL = (8, 10, 15, 1024, 1026, 1031)
# FIOSETOWN, SIOCSPGRP; TIOCSTI, TIOCLINUX; FS_IOC_SETFLAGS (both widths), FSSETXATTR, ENABLE_VERITY, encryption policy
DENIED_IOCTL = (0x8901, 0x8902, 0x5412, 0x541C, 0x40086602, 0x40046602, 0x401C5820, 0x40806685, 0x800C6613)
