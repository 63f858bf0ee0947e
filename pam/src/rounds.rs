//! How many of the rounds that fit into the longest duration a plan makes. A round is an iteration after the first copy.
//!
//! The paper takes the most that fit. A service that hardly writes gains nothing by them: its migration only lasts longer.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::units::Millis;

/// Which of the numbers of rounds that fit a plan takes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum RoundsRule {
    /// The fewest whose expected downtime is as good as the best that any of them reaches (see [`RoundsRule::slack`]).
    #[default]
    Enough,
    /// The most (WCNC 2024, Fig. 3).
    Paper,
}

impl RoundsRule {
    /// Every rule, in the order in which they are shown.
    pub const ALL: [Self; 2] = [Self::Enough, Self::Paper];

    /// The name that the command line and the wire use.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Enough => "enough",
            Self::Paper => "paper",
        }
    }

    /// How far above the least an expected downtime may lie to count as good as it: 2 % of it or 2 ms, whichever is more.
    #[must_use]
    pub fn slack(least: Millis) -> Millis {
        Millis((0.02 * least.0).max(2.0))
    }
}

impl fmt::Display for RoundsRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// How many rounds a pre-copy plan makes, and of how many.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
pub struct Rounds {
    /// By which rule they were chosen.
    pub rule: RoundsRule,
    /// Those that are planned.
    pub chosen: u32,
    /// The most that fit into the longest duration, within the limit on rounds.
    pub most: u32,
}

impl fmt::Display for Rounds {
    /// `15`, or `1 of 15`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.chosen)?;
        if self.chosen == self.most { Ok(()) } else { write!(f, " of {}", self.most) }
    }
}

/// A text that names no rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no rule for rounds: choose enough (the fewest that are as good) or paper (the most that fit)"
)]
pub struct UnknownRoundsRule(String);

impl FromStr for RoundsRule {
    type Err = UnknownRoundsRule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|rule| rule.name() == text)
            .ok_or_else(|| UnknownRoundsRule(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_reads_back_from_its_name() {
        for rule in RoundsRule::ALL {
            assert_eq!(rule.name().parse(), Ok(rule));
        }
        let error = "most".parse::<RoundsRule>().unwrap_err().to_string();
        assert!(error.contains("`most`") && error.contains("enough") && error.contains("paper"), "{error}");
    }

    #[test]
    fn both_numbers_are_told_where_they_differ() {
        let rounds = Rounds { rule: RoundsRule::Enough, chosen: 1, most: 15 };
        assert_eq!(rounds.to_string(), "1 of 15");
        assert_eq!(Rounds { chosen: 15, ..rounds }.to_string(), "15");
    }

    #[test]
    fn the_slack_is_the_larger_of_both() {
        assert_eq!(RoundsRule::slack(Millis(50.0)), Millis(2.0));
        assert_eq!(RoundsRule::slack(Millis(1000.0)), Millis(20.0));
    }
}
