//! What will probably happen, beside the bound that is promised: how many bytes are dirty at each iteration when the
//! service dirties them at its rate R throughout.
//!
//! With x the bytes dirty when an iteration begins, D = σ·R and ℓ the transfer time of a byte, an iteration takes
//! T = A + (B + ℓ)·x, of which the service stands still for a part, and the next finds
//! x' = min(M, WWS, c + q·x) bytes dirty. That tends to x* = c/(1 − q) if q < 1, and to all that can be dirty otherwise.

use crate::model::Model;
use crate::rounds::RoundsRule;
use crate::service::{NormalizedRate, Service};
use crate::units::{BitsPerSec, Bytes, Millis};

/// T_down and T_mig.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kpis {
    /// T_down.
    pub downtime: Millis,
    /// T_mig.
    pub duration: Millis,
}

/// One iteration as it is expected.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Iteration {
    /// Its number, from 1 on: 1 is the first after the pre-dump.
    pub number: u32,
    /// x: what is dirty when it begins.
    pub dirty: Bytes,
    /// How long it takes, transfer included.
    pub time: Millis,
    /// The downtime if the final dump were made instead of it.
    pub downtime: Millis,
}

/// How many iterations are enough, and what they reach.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Enough {
    pub(crate) iterations: u32,
    /// The downtime that is expected with them.
    pub(crate) downtime: Millis,
    /// The least that is expected with any number of those that fit.
    pub(crate) least: Millis,
}

/// Milliseconds as a function of dirty bytes.
#[derive(Debug, Clone, Copy)]
struct Pass {
    base: f64,
    per_byte: f64,
}

impl Pass {
    fn at(self, dirty: f64) -> f64 {
        self.base + self.per_byte * dirty
    }
}

/// The expected course of a pre-copy migration.
#[derive(Debug, Clone, Copy)]
pub struct Trajectory {
    /// Everything before the first iteration: preparation and T_0.
    head: f64,
    /// x_1.
    first: f64,
    round: Pass,
    dump: Pass,
    /// c (bytes) and q.
    offset: f64,
    gain: f64,
    /// min(M, WWS).
    most: f64,
    /// T_r + T_add.
    tail: f64,
}

impl Trajectory {
    /// The course at R, over a link of `bandwidth` (above zero).
    #[must_use]
    pub fn new(model: &Model, service: &Service, bandwidth: BitsPerSec, overlay: bool) -> Self {
        let memory = service.memory;
        let costs = model.costs(memory, NormalizedRate::LEAST, overlay);
        let per_byte_sent = 8e3 / bandwidth.0 as f64;
        // D in bytes per millisecond.
        let dirtied = model.page * model.dirty_rate(service).0 / 1e3;
        let most = service.working_set.map_or(memory, |wws| wws.min(memory));

        let [least, greatest] = model.dump;
        let dump = Pass { base: costs.dump.0, per_byte: greatest.slope - least.slope };
        let [least, greatest] = model.frozen_dump;
        let frozen = Pass { base: least.base + least.slope * memory, per_byte: greatest.slope - least.slope };
        let (round, frozen, sent) = match model.own_round(memory) {
            // As published: what is dirty is what is sent.
            None => {
                let sent = Pass { base: 0.0, per_byte: model.sent_per_dirty * per_byte_sent };
                (dump, frozen, sent)
            }
            // As calibrated: V between its ends. The part for which a round stops the service is not known.
            Some(base) => {
                let [least, greatest] = model.dump_volumes(memory);
                let sent = Pass {
                    base: least * per_byte_sent,
                    per_byte: (greatest - least) / memory * per_byte_sent,
                };
                (Pass { base, per_byte: 0.0 }, Pass { base: 0.0, per_byte: 0.0 }, sent)
            }
        };
        let transferred =
            |pass: Pass| Pass { base: pass.base + sent.base, per_byte: pass.per_byte + sent.per_byte };
        let (round, dump) = (transferred(round), transferred(dump));
        let predump = costs.predump.0 + costs.predump_volume * per_byte_sent;
        let (first_pass, changed) =
            (service.files.first * per_byte_sent, service.files.changed * per_byte_sent);
        let round = Pass { base: round.base + changed, ..round };
        Self {
            head: costs.prepare.0 + first_pass + predump,
            first: (dirtied * (predump - model.frozen_in_predump(memory)).max(0.0)).min(most),
            offset: dirtied * (round.base - frozen.base).max(0.0),
            gain: dirtied * (round.per_byte - frozen.per_byte).max(0.0),
            round,
            dump,
            most,
            tail: costs.restore.0 + costs.overlay.0 + changed,
        }
    }

    /// Whether iterations come closer to a fixed point (q < 1): the link outruns the service.
    #[must_use]
    pub fn converges(&self) -> bool {
        self.gain < 1.0
    }

    /// What is dirty after ever more iterations: x* = c/(1 − q), but no more than can be dirty.
    #[must_use]
    pub fn fixed_point(&self) -> Bytes {
        Bytes(self.limit().round() as u64)
    }

    fn limit(&self) -> f64 {
        if self.gain < 1.0 {
            (self.offset / (1.0 - self.gain)).min(self.most)
        } else if self.after(self.first) > self.first {
            self.most
        } else {
            self.first
        }
    }

    /// The downtime that any number of iterations only tends to: A + (B + ℓ)·x* + T_r + T_add.
    #[must_use]
    pub fn floor(&self) -> Millis {
        Millis(self.dump.at(self.limit()) + self.tail)
    }

    /// The least number of iterations whose downtime lies within `gain` of the least that iterations can reach; more
    /// only lengthen the migration. 0 where none pays.
    #[must_use]
    pub fn pays_until(&self, gain: Millis) -> u32 {
        let above = self.dump.per_byte * (self.first - self.limit());
        if above <= gain.0 || gain.0 <= 0.0 {
            return 0;
        }
        // x decreases only towards x* with q < 1; with q = 0 the first iteration reaches it.
        let iterations = if self.gain > 0.0 { (gain.0 / above).ln() / self.gain.ln() } else { 1.0 };
        iterations.ceil().clamp(1.0, f64::from(u32::MAX)) as u32
    }

    /// The fewest of at most `most` iterations whose expected downtime is as good as the least that any of them reaches.
    #[must_use]
    pub(crate) fn enough(&self, most: u32) -> Enough {
        let downtime = |dirty: f64| Millis(self.dump.at(dirty) + self.tail);
        let none = downtime(self.first);
        // What is dirty follows a rising line: it falls with every iteration, or with none.
        if most == 0 || self.after(self.first) >= self.first {
            return Enough { iterations: 0, downtime: none, least: none };
        }
        // It falls, so q < 1, and nothing keeps it from coming closer to x* by that factor each time.
        let (limit, left) = (self.limit(), self.gain.powf(f64::from(most)));
        let above = self.first - limit;
        let least = downtime(limit + above * left);
        let slack = RoundsRule::slack(least);
        if none.0 - least.0 <= slack.0 {
            return Enough { iterations: 0, downtime: none, least };
        }
        let share = left + slack.0 / (self.dump.per_byte * above);
        let iterations = if self.gain > 0.0 { share.ln() / self.gain.ln() } else { 1.0 };
        let iterations = iterations.ceil().clamp(1.0, f64::from(most)) as u32;
        let dirty = limit + above * self.gain.powf(f64::from(iterations));
        Enough { iterations, downtime: downtime(dirty), least }
    }

    fn after(&self, dirty: f64) -> f64 {
        (self.offset + self.gain * dirty).min(self.most)
    }

    /// The iterations, without end.
    pub fn iterations(&self) -> impl Iterator<Item = Iteration> + '_ {
        let dirty = std::iter::successors(Some(self.first), |dirty| Some(self.after(*dirty)));
        (1..=u32::MAX).zip(dirty).map(|(number, dirty)| Iteration {
            number,
            dirty: Bytes(dirty.round() as u64),
            time: Millis(self.round.at(dirty)),
            downtime: Millis(self.dump.at(dirty) + self.tail),
        })
    }

    /// What is expected of a migration with so many iterations after the pre-dump.
    #[must_use]
    pub fn expected(&self, iterations: u32) -> Kpis {
        let mut dirty = self.first;
        let mut rounds = 0.0;
        for done in 0..iterations {
            let next = self.after(dirty);
            rounds += self.round.at(dirty);
            // Rounding may keep it moving about its fixed point for ever.
            if (next - dirty).abs() <= 4.0 * f64::EPSILON * dirty {
                rounds += f64::from(iterations - done - 1) * self.round.at(dirty);
                break;
            }
            dirty = next;
        }
        let downtime = self.dump.at(dirty) + self.tail;
        Kpis { downtime: Millis(downtime), duration: Millis(self.head + rounds + downtime) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::calibration::{Calibration, RoundCost};
    use crate::service::DirtyRate;
    use crate::units::PagesPerSec;

    const GIGABIT: BitsPerSec = BitsPerSec(1_000_000_000);

    fn service(rate: f64) -> Service {
        let rate = DirtyRate::Measured(PagesPerSec(rate));
        Service::new(Bytes(10_000_000), rate, Millis(1000.0)).unwrap()
    }

    fn trajectory(rate: f64, bandwidth: BitsPerSec) -> Trajectory {
        Trajectory::new(&Model::new(&Calibration::tnsm2024()), &service(rate), bandwidth, true)
    }

    #[test]
    fn the_recurrence_is_that_of_the_closed_form() {
        let t = trajectory(300.0, GIGABIT);
        // A = α1α2(β + φ_d), B = α1α2Λ, ℓ = 8/L, D = σR, per millisecond.
        let (a, b, link, d) = (1.92 * 124.0, 1.92 * 3e-6, 8e-6, 4096.0 * 0.3);
        let (q, c) = (d * (b - 3e-6 + link), d * (a - 40.0));
        let fixed_point = c / (1.0 - q);
        assert!((t.limit() - fixed_point).abs() < 1e-6);
        assert!((t.floor().0 - (a + (b + link) * fixed_point + 3.3 * 1.9 * 68.0 + 241.0)).abs() < 1e-9);
        let mut x = t.first;
        for iteration in t.iterations().take(20) {
            assert!((iteration.time.0 - (a + (b + link) * x)).abs() < 1e-6);
            x = c + q * x;
        }
        let closed = fixed_point + (t.first - fixed_point) * q.powi(19);
        assert!((t.iterations().nth(19).unwrap().dirty.0 as f64 - closed).abs() <= 1.0);
    }

    #[test]
    fn an_idle_service_is_copied_once() {
        let t = trajectory(0.0, GIGABIT);
        assert_eq!(t.fixed_point(), Bytes(0));
        assert_eq!(t.pays_until(Millis(1.0)), 0);
        assert_eq!(t.expected(0).downtime, t.expected(9).downtime);
        assert!((t.expected(0).downtime.0 - (1.92 * 124.0 + 6.27 * 68.0 + 241.0)).abs() < 1e-9);
    }

    #[test]
    fn a_link_that_the_service_outruns_never_converges() {
        let t = trajectory(100_000.0, BitsPerSec(10_000_000));
        assert!(!t.converges());
        assert_eq!(t.fixed_point(), Bytes(10_000_000));
        assert_eq!(t.pays_until(Millis(1.0)), 0);
    }

    #[test]
    fn no_more_is_dirty_than_the_working_set() {
        let model = Model::new(&Calibration::tnsm2024());
        let service = service(100_000.0).with_working_set(Bytes(500_000)).unwrap();
        let t = Trajectory::new(&model, &service, BitsPerSec(10_000_000), true);
        assert!(t.iterations().take(50).all(|iteration| iteration.dirty <= Bytes(500_000)));
    }

    #[test]
    fn past_where_they_pay_iterations_gain_less_than_asked() {
        for (rate, bandwidth) in [(300.0, 1e9), (1000.0, 1e8), (2000.0, 1e8), (50.0, 1e7)] {
            let t = trajectory(rate, BitsPerSec(bandwidth as u64));
            let enough = t.pays_until(Millis(1.0));
            let downtime = |n| t.expected(n).downtime.0;
            assert!(downtime(enough) <= t.floor().0 + 1.0 + 1e-6, "{rate} {bandwidth}");
            assert!(enough == 0 || downtime(enough - 1) > t.floor().0 + 1.0 - 1e-6, "{rate} {bandwidth}");
        }
    }

    #[test]
    fn what_is_expected_is_the_sum_of_its_iterations() {
        let t = trajectory(700.0, BitsPerSec(200_000_000));
        for n in [0_u32, 1, 2, 7, 300] {
            let rounds: f64 = t.iterations().take(n as usize).map(|iteration| iteration.time.0).sum();
            let last = t.iterations().nth(n as usize).unwrap();
            let expected = t.expected(n);
            assert!((expected.downtime.0 - last.downtime.0).abs() < 1e-9);
            assert!((expected.duration.0 - (t.head + rounds + last.downtime.0)).abs() < 1e-6);
        }
    }

    #[test]
    fn a_calibration_with_rounds_sends_its_measured_volumes() {
        let mut calibration = Calibration::tnsm2024();
        calibration.round = Some(RoundCost { base: 20.0.into(), per_byte: 0.0.into() });
        let t = Trajectory::new(&Model::new(&calibration), &service(300.0), GIGABIT, true);
        let first = t.iterations().next().unwrap();
        let volume = 163_840.0 + (10_280_960.0 - 163_840.0) * t.first / 1e7;
        assert!((first.time.0 - (20.0 + volume * 8e-6)).abs() < 1e-9);
    }
}
