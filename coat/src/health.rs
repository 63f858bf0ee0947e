//! What an overlay finds when it looks at what it stands on; what it means for a migration is for others to say.

use crate::CoatError;

/// How the bridge forwards packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Datapath {
    /// In the kernel's `openvswitch` module.
    Kernel,
    /// In `ovs-vswitchd` itself (`netdev`): no module is needed, and every packet costs more.
    Userspace,
    /// In something else that Open vSwitch names.
    Other(String),
}

impl Datapath {
    /// By its name in the database, where the kernel's is the empty one.
    pub(crate) fn of(name: &str) -> Self {
        match name {
            "" | "system" => Self::Kernel,
            "netdev" => Self::Userspace,
            other => Self::Other(other.to_owned()),
        }
    }
}

/// A device that the switch could not open.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Faulty {
    /// Its name.
    pub device: String,
    /// The switch's own words.
    pub reason: String,
}

/// What the database says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// The release of Open vSwitch, if it is written there.
    pub release: Option<String>,
    /// How the bridge forwards; `None` where there is no such bridge any more.
    pub datapath: Option<Datapath>,
    /// The bridge's ports that are this overlay's.
    pub ports: usize,
    /// Those of them that are out of use.
    pub faulty: Vec<Faulty>,
}

/// What an overlay finds of what it stands on.
#[derive(Debug)]
pub struct Health {
    /// The bridge's name.
    pub bridge: String,
    /// What the database says, or why it says nothing.
    pub database: Result<Recorded, CoatError>,
    /// How many flows the switch tells of over OpenFlow, or why it tells none.
    pub switch: Result<usize, CoatError>,
}
