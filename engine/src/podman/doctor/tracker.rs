//! By which means dirty pages are found here.

use mose_pages::{Means, Preference};
use mose_protocol::doctor::Check;

use super::ANSWER;

const WHAT: &str = "dirty-page tracker";

/// The means that works best here, and what that is worth.
pub(super) async fn check() -> (Option<String>, Check) {
    // One that takes longer goes on for nobody, to its end: a thread cannot be broken off.
    let opened = tokio::task::spawn_blocking(|| {
        mose_pages::open(&Preference::default()).map(|opened| (opened.tracker.means(), opened.rejected))
    });
    match tokio::time::timeout(ANSWER, opened).await {
        Err(_) => (None, Check::late(WHAT, ANSWER)),
        Ok(Err(error)) => (None, Check::unknown(WHAT, error.to_string(), "see the agent's log")),
        Ok(Ok(Err(error))) => (
            None,
            Check::broken(
                WHAT,
                error.to_string(),
                "run the agent as root with CAP_SYS_PTRACE; until then give the figures to `mose plan`, and migrate cold",
            ),
        ),
        Ok(Ok(Ok((means, rejected)))) => (Some(means.to_string()), judge(means, &rejected)),
    }
}

fn judge(means: Means, rejected: &[(Means, String)]) -> Check {
    if means == Means::WriteProtection {
        return Check::ok(WHAT, "write-protection: exact, nearly for free");
    }
    let why: Vec<_> = rejected.iter().map(|(means, why)| format!("{means}: {why}")).collect();
    let instead = match means {
        Means::SoftDirty => {
            "the kernel's soft-dirty bits: a write between reading and clearing them is not seen"
        }
        _ => {
            "reading and comparing all pages: dear for a large service, whose dirty-page rate is then looked at seldom"
        }
    };
    Check::fallback(
        WHAT,
        why.join("; "),
        instead,
        "run a kernel from 6.7 on, on x86-64, with mose-write-protect beside mose-agent",
    )
}

#[cfg(test)]
mod tests {
    use mose_protocol::doctor::CheckState;

    use super::*;

    #[test]
    fn a_lesser_means_is_a_fallback_that_says_why() {
        assert_eq!(judge(Means::WriteProtection, &[]).state, CheckState::Ok);
        let check = judge(Means::Hashing, &[(Means::SoftDirty, "the kernel has none".into())]);
        assert_eq!(check.state, CheckState::Fallback);
        assert_eq!(check.found, "soft-dirty: the kernel has none");
        assert!(check.fallback.unwrap().contains("comparing all pages"));
    }

    #[tokio::test]
    async fn this_machine_has_some_means() {
        let (means, check) = check().await;
        assert!(means.is_some(), "{check:?}");
        assert!(matches!(check.state, CheckState::Ok | CheckState::Fallback), "{check:?}");
    }
}
