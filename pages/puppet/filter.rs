//! A seccomp filter that allows everything but userfaultfd(2).

/// Installs the filter; `kill` ends the process that tries, `errno` answers `EPERM`.
pub(crate) fn install(action: &str) -> String {
    let verdict = if action == "kill" { libc::SECCOMP_RET_KILL_PROCESS } else { libc::SECCOMP_RET_ERRNO | 1 };
    let load = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let give = (libc::BPF_RET | libc::BPF_K) as u16;
    let instruction = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut program = [
        instruction(load, 0, 0, 0),
        instruction(jump, 0, 1, libc::SYS_userfaultfd as u32),
        instruction(give, 0, 0, verdict),
        instruction(give, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let mut all = libc::sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    // SAFETY: the program and its description live until the calls return.
    let done = unsafe {
        libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
        libc::syscall(
            libc::SYS_seccomp,
            libc::SECCOMP_SET_MODE_FILTER,
            libc::SECCOMP_FILTER_FLAG_TSYNC,
            &raw mut all,
        )
    };
    done.to_string()
}
