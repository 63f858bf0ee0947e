//! Plays a recording: its events at their times, faster or slower, from any moment on.

use std::path::Path;
use std::time::Duration;

use color_eyre::eyre::{WrapErr, eyre};
use mose_protocol::Timestamp;
use mose_screen::effect::Playing;
use mose_screen::event::{Answer, Event};
use mose_screen::fleet_event::FleetEvent;
use mose_screen::recording::Recording;
use mose_screen::state::Replay;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// The largest recording that is read.
const LARGEST: u64 = 512 << 20;
/// How often the replay moves on.
const STEP: Duration = Duration::from_millis(50);
/// How often it is told how far it is.
const TOLD: Duration = Duration::from_millis(100);
const SPEEDS: (f64, f64) = (0.125, 64.0);

/// Reads a recording's file.
///
/// # Errors
/// Where the file cannot be read, or is no recording.
pub fn load(path: &Path) -> color_eyre::Result<Recording> {
    let shown = path.display();
    let size = std::fs::metadata(path).wrap_err_with(|| format!("{shown} cannot be read"))?.len();
    if size > LARGEST {
        return Err(eyre!("{shown} has {size} bytes; recordings of up to {LARGEST} are replayed"));
    }
    let text = std::fs::read_to_string(path).wrap_err_with(|| format!("{shown} cannot be read"))?;
    Recording::parse(&text).wrap_err_with(|| format!("{shown} cannot be replayed"))
}

/// A replay at its begin.
#[must_use]
pub(super) fn at_begin(recording: &Recording, name: &str) -> Replay {
    let (begin, end) = recording.span();
    let simulated =
        recording.lines.iter().any(|line| matches!(&line.event, FleetEvent::Hello(hello) if hello.simulated));
    Replay { name: name.to_owned(), at: begin, begin, end, speed: 1.0, paused: false, simulated }
}

/// Plays a recording into the console's events.
pub struct Player {
    recording: Recording,
    replay: Replay,
    /// Up to when events were handed on.
    handed: Timestamp,
}

impl Player {
    /// A player at the begin of a recording.
    #[must_use]
    pub fn new(recording: Recording, name: &str) -> Self {
        let replay = at_begin(&recording, name);
        let handed = Timestamp(replay.begin.0.saturating_sub(1));
        Self { recording, replay, handed }
    }

    /// How far it is.
    #[must_use]
    pub const fn replay(&self) -> &Replay {
        &self.replay
    }

    /// Plays until nobody listens any more.
    pub async fn play(mut self, mut orders: mpsc::UnboundedReceiver<Playing>, events: mpsc::Sender<Event>) {
        let mut steps = tokio::time::interval(STEP);
        steps.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut before = Instant::now();
        let mut told = Instant::now();
        loop {
            tokio::select! {
                order = orders.recv() => {
                    let Some(order) = order else { return };
                    let back = self.order(order);
                    let answer = self.replay.clone();
                    let answer = if back { Answer::Rewound(answer) } else { Answer::Replaying(answer) };
                    if events.send(Event::Answer(answer)).await.is_err() {
                        return;
                    }
                }
                _ = steps.tick() => {}
            }
            let elapsed = before.elapsed();
            before = Instant::now();
            let happened = self.advance(elapsed);
            if !happened.is_empty() || told.elapsed() >= TOLD {
                told = Instant::now();
                // First the time, then what happened by then.
                let answer = Event::Answer(Answer::Replaying(self.replay.clone()));
                if events.send(answer).await.is_err() {
                    return;
                }
            }
            for event in happened {
                if events.send(Event::Fleet(event)).await.is_err() {
                    return;
                }
            }
        }
    }

    /// Goes on by so much time, at the replay's speed; what happened in it.
    fn advance(&mut self, elapsed: Duration) -> Vec<FleetEvent> {
        if !self.replay.paused {
            let by = (elapsed.as_secs_f64() * self.replay.speed * 1e6) as u64;
            self.replay.at = Timestamp((self.replay.at.0 + by).min(self.replay.end.0));
        }
        let lines = self.recording.between(self.handed, self.replay.at);
        let events = lines.iter().map(|line| line.event.clone()).collect();
        self.handed = self.handed.max(self.replay.at);
        events
    }

    /// Whether it went back: what was known is of another time then.
    fn order(&mut self, order: Playing) -> bool {
        match order {
            Playing::Pause if self.replay.at >= self.replay.end => {
                // At its end, it begins anew.
                self.replay.paused = false;
                self.seek(self.replay.begin)
            }
            Playing::Pause => {
                self.replay.paused = !self.replay.paused;
                false
            }
            Playing::Speed(factor) => {
                self.replay.speed = (self.replay.speed * factor).clamp(SPEEDS.0, SPEEDS.1);
                false
            }
            Playing::Seek(seconds) => {
                let to = self.replay.at.shifted((seconds * 1e6) as i64);
                self.seek(Timestamp(to.0.clamp(self.replay.begin.0, self.replay.end.0)))
            }
        }
    }

    fn seek(&mut self, to: Timestamp) -> bool {
        let back = to < self.replay.at;
        self.replay.at = to;
        if back {
            // All that led there is told again.
            self.handed = Timestamp(self.replay.begin.0.saturating_sub(1));
        }
        back
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use mose_screen::recording::{Header, Line};

    fn player() -> Player {
        let line = |second: u64, host: &str| Line {
            at: Timestamp(second * 1_000_000),
            event: FleetEvent::Seen(host.parse().unwrap()),
        };
        let header = Header::new(Timestamp(1_000_000), "test".into());
        let lines = vec![line(1, "a"), line(2, "b"), line(9, "c")];
        Player::new(Recording { header, lines }, "test")
    }

    fn hosts(events: Vec<FleetEvent>) -> Vec<String> {
        events
            .iter()
            .filter_map(
                |event| if let FleetEvent::Seen(host) = event { Some(host.to_string()) } else { None },
            )
            .collect()
    }

    #[test]
    fn events_come_at_their_times_and_faster_if_so_wanted() {
        let mut player = player();
        assert_eq!(hosts(player.advance(Duration::ZERO)), ["a"]);
        assert_eq!(hosts(player.advance(Duration::from_millis(1500))), ["b"]);
        player.order(Playing::Speed(4.0));
        assert_eq!(hosts(player.advance(Duration::from_secs(2))), ["c"]);
        assert_eq!(player.replay.at, player.replay.end);
        assert!(player.advance(Duration::from_secs(9)).is_empty());
    }

    #[test]
    fn going_back_tells_again_what_led_there_and_a_pause_holds_it() {
        let mut player = player();
        player.advance(Duration::from_secs(3));
        assert!(player.order(Playing::Seek(-1.5)));
        assert_eq!(hosts(player.advance(Duration::ZERO)), ["a", "b"]);
        player.order(Playing::Pause);
        assert!(player.advance(Duration::from_secs(9)).is_empty());
        assert!(!player.order(Playing::Seek(100.0)));
        assert_eq!(hosts(player.advance(Duration::ZERO)), ["c"]);
        // At its end, going on begins anew.
        assert!(player.order(Playing::Pause));
        assert_eq!(player.replay.at, player.replay.begin);
    }
}
