//! The radio between a UAV and the cells at two or more edge hosts: which cell serves it where it is, and what delay and loss its links
//! to the edge hosts have there. A model; [`relay`] applies it to frames.
//!
//! Signal strength falls with the distance as in 3GPP TR 36.777 (UMa-AV, line of sight, 22 log10 d). The serving cell changes as in LTE
//! and 5G (event A3, TS 36.331 5.5.4.4): when another cell has been stronger by [`HYSTERESIS_DB`] for [`TRIGGER_S`].

pub mod ether;
pub mod relay;

use std::net::Ipv4Addr;
use std::str::FromStr;
use std::time::Duration;

use crate::ned::Ned;

/// By how much another cell must be stronger, in dB.
pub const HYSTERESIS_DB: f64 = 1.0;

/// And for how long, in seconds: *time to trigger*.
pub const TRIGGER_S: f64 = 0.2;

/// The signal at one metre, in dBm.
const AT_A_METRE_DBM: f64 = -50.0;

/// What is heard well, and what is hardly heard, in dBm.
const GOOD_DBM: f64 = -90.0;
const BAD_DBM: f64 = -100.0;

/// The one-way delay of a good signal, and what a bad one adds to it by sending again, in milliseconds.
const AIR_MS: f64 = 3.0;
const AGAIN_MS: f64 = 8.0;

/// The one-way delay from one cell's edge host to another's, in milliseconds.
const BACKHAUL_MS: f64 = 12.0;

/// The share of frames that a bad signal loses.
const LOST: f64 = 0.005;

/// A cell and the edge host at it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Site {
    /// The cell's location area code, as the modem tells it.
    pub area: u16,
    /// The edge host's underlay address.
    pub edge: Ipv4Addr,
    /// Where the cell stands: metres to the east and north.
    pub east_m: f64,
    /// See `east_m`.
    pub north_m: f64,
}

/// Written as `AREA=ADDRESS@EAST,NORTH`.
impl FromStr for Site {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let read = || {
            let (area, rest) = text.split_once('=')?;
            let (edge, place) = rest.split_once('@')?;
            let (east, north) = place.split_once(',')?;
            let site = Self {
                area: area.parse().ok()?,
                edge: edge.parse().ok()?,
                east_m: east.parse().ok()?,
                north_m: north.parse().ok()?,
            };
            (site.east_m.is_finite() && site.north_m.is_finite()).then_some(site)
        };
        read().ok_or_else(|| {
            format!("`{text}` is no cell: write AREA=ADDRESS@EAST,NORTH, such as 1=10.99.0.11@-70,0 (metres)")
        })
    }
}

impl Site {
    /// How strong the cell is at a place, in dBm.
    #[must_use]
    pub fn signal_dbm(&self, place: Ned) -> f64 {
        let distance = (place - Ned::new(self.north_m, self.east_m, 0.0)).horizontal().hypot(place.down);
        AT_A_METRE_DBM - 22.0 * distance.max(1.0).log10()
    }
}

/// How the UAV's radio is now.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    /// The serving cell, as a number of [`Radio::sites`].
    pub serving: usize,
    /// How well it is heard, in percent of a good signal.
    pub signal_percent: u8,
    /// The one-way delay to the edge host at the serving cell.
    pub air: Duration,
    /// What the other edge hosts are further away.
    pub backhaul: Duration,
    /// The share of frames that are lost.
    pub lost: f64,
}

impl Conditions {
    /// The one-way delay to an edge host.
    #[must_use]
    pub fn delay(&self, site: Option<usize>) -> Duration {
        if site.is_none_or(|site| site == self.serving) { self.air } else { self.air + self.backhaul }
    }
}

/// The radio of a UAV.
#[derive(Debug, Clone)]
pub struct Radio {
    sites: Vec<Site>,
    serving: Option<usize>,
    /// The cell that has been stronger, and since when.
    stronger: Option<(usize, f64)>,
}

impl Radio {
    /// A radio that is served by none of these cells yet.
    #[must_use]
    pub const fn new(sites: Vec<Site>) -> Self {
        Self { sites, serving: None, stronger: None }
    }

    /// The cells.
    #[must_use]
    pub fn sites(&self) -> &[Site] {
        &self.sites
    }

    /// The conditions at a place, at a time in seconds; `None` without a cell.
    pub fn at(&mut self, place: Ned, seconds: f64) -> Option<Conditions> {
        let signals: Vec<f64> = self.sites.iter().map(|site| site.signal_dbm(place)).collect();
        let best = (0..signals.len()).max_by(|one, other| signals[*one].total_cmp(&signals[*other]))?;
        let serving = match self.serving {
            Some(serving) if signals[best] < signals[serving] + HYSTERESIS_DB => {
                self.stronger = None;
                serving
            }
            Some(serving) => {
                let since =
                    self.stronger.filter(|(cell, _)| *cell == best).map_or(seconds, |(_, since)| since);
                self.stronger = Some((best, since));
                if seconds - since >= TRIGGER_S { best } else { serving }
            }
            None => best,
        };
        self.serving = Some(serving);
        // 1 where the signal is good, 0 where it is bad.
        let quality = ((signals[serving] - BAD_DBM) / (GOOD_DBM - BAD_DBM)).clamp(0.0, 1.0);
        let ms = |ms: f64| Duration::from_secs_f64(ms / 1e3);
        Some(Conditions {
            serving,
            signal_percent: (quality * 100.0).round() as u8,
            air: ms(AIR_MS + AGAIN_MS * (1.0 - quality)),
            backhaul: ms(BACKHAUL_MS),
            lost: LOST * (1.0 - quality),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::orbit::PAPER;

    /// Two cells, east and west of the paper's orbit.
    fn radio() -> Radio {
        Radio::new(["1=10.99.0.11@-70,0", "2=10.99.0.12@170,0"].map(|text| text.parse().unwrap()).into())
    }

    /// The conditions along the orbit, ten times a second.
    fn flown(radio: &mut Radio, laps: f64) -> Vec<Conditions> {
        let lap_s = std::f64::consts::TAU * PAPER.radius_m / PAPER.speed_m_s;
        (0..(laps * lap_s * 10.0) as u32)
            .map(|tick| f64::from(tick) / 10.0)
            .map(|seconds| radio.at(PAPER.at(seconds).0, seconds).unwrap())
            .collect()
    }

    #[test]
    fn each_lap_has_two_handovers_and_each_cell_serves_its_own_side() {
        let all = flown(&mut radio(), 5.0);
        let changes = all.windows(2).filter(|pair| pair[0].serving != pair[1].serving).count();
        assert_eq!(changes, 10);
        // The orbit begins at its western end, and is at its eastern end after half a lap.
        assert_eq!((all[0].serving, all[314].serving), (0, 1));
    }

    #[test]
    fn the_way_to_the_other_edge_host_is_longer_and_a_weak_signal_is_slower_and_loses_more() {
        let all = flown(&mut radio(), 1.0);
        let change = all.windows(2).position(|pair| pair[0].serving != pair[1].serving).unwrap();
        let (near, far, after) = (all[0], all[change], all[change + 1]);
        assert!(near.delay(Some(0)) < far.delay(Some(0)), "it climbs towards the border");
        assert!(after.delay(Some(0)) > far.delay(Some(0)) + Duration::from_millis(11), "{after:?}");
        assert!(after.delay(Some(1)) < far.delay(Some(0)), "and is better for a service that has moved");
        assert!(near.lost < far.lost && far.lost <= LOST && near.signal_percent > far.signal_percent);
        assert_eq!(near.delay(None), near.delay(Some(0)));
    }

    #[test]
    fn a_uav_that_turns_back_at_the_border_keeps_its_cell() {
        let mut radio = radio();
        // To and fro over the middle, up to a metre to each side.
        let served: Vec<usize> = (0..600)
            .map(|tick| f64::from(tick) / 10.0)
            .map(|seconds| radio.at(Ned::new(30.0, 50.0 + seconds.sin(), -20.0), seconds).unwrap().serving)
            .collect();
        assert!(served.windows(2).all(|pair| pair[0] == pair[1]));
    }

    #[test]
    fn a_stronger_cell_takes_over_only_after_the_time_to_trigger() {
        let mut radio = radio();
        let east = Ned::new(0.0, 100.0, -20.0);
        assert_eq!(radio.at(Ned::new(0.0, 0.0, -20.0), 0.0).unwrap().serving, 0);
        assert_eq!(radio.at(east, 1.0).unwrap().serving, 0);
        assert_eq!(radio.at(east, 1.125).unwrap().serving, 0);
        assert_eq!(radio.at(east, 1.25).unwrap().serving, 1);
        assert_eq!(Radio::new(Vec::new()).at(east, 0.0), None);
    }

    #[test]
    fn a_cell_that_is_written_wrongly_is_refused_with_the_spelling() {
        for text in [
            "",
            "1",
            "1=10.0.0.1",
            "1=10.0.0.1@1",
            "x=10.0.0.1@1,2",
            "1=10.0.0.1@nan,2",
            "70000=10.0.0.1@1,2",
        ] {
            let error = text.parse::<Site>().unwrap_err();
            assert!(error.contains("AREA=ADDRESS@EAST,NORTH"), "{error}");
        }
    }
}
