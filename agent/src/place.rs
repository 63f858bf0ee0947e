//! A place on the plane that the hosts of a testbed share, as an operator gives it.

use std::str::FromStr;

/// The furthest from the plane's origin that a place may be, in metres: further away, the earth is no plane.
const FURTHEST: f64 = 1e6;

/// A place, in metres from the plane's origin.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Place {
    /// To the east.
    pub east: f64,
    /// To the north.
    pub north: f64,
}

impl FromStr for Place {
    type Err = String;

    /// Reads `EAST,NORTH`, such as `-60,12.5`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wanted =
            "two distances in metres with a comma between them are wanted, EAST,NORTH, such as -60,12.5";
        let (east, north) = text.split_once(',').ok_or(wanted)?;
        let metres = |text: &str| text.trim().parse::<f64>().ok().filter(|metres| metres.is_finite());
        let (east, north) = metres(east).zip(metres(north)).ok_or(wanted)?;
        if east.abs() > FURTHEST || north.abs() > FURTHEST {
            return Err(format!("a place is at most {} km from the plane's origin", FURTHEST / 1e3));
        }
        Ok(Self { east, north })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_two_distances_and_anything_else_is_refused_with_what_is_wanted() {
        assert_eq!("-60,12.5".parse(), Ok(Place { east: -60.0, north: 12.5 }));
        assert_eq!(" 0 , 7e2 ".parse(), Ok(Place { east: 0.0, north: 700.0 }));
        for wrong in ["", "5", "a,b", "1,2,3", "1;2", "NaN,0", "0,inf", "1m,2m"] {
            let why = wrong.parse::<Place>().unwrap_err();
            assert!(why.contains("EAST,NORTH"), "{wrong}: {why}");
        }
        assert!("2000000,0".parse::<Place>().unwrap_err().contains("1000 km"));
    }
}
