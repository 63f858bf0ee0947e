//! What the overlay keeps in the `Open_vSwitch` database: the bridge, its ports, and in the ports' `external_ids` what
//! a restarted agent must know of them.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::OvsdbClient;
use crate::{CoatError, Datapath, Faulty, Recorded};

/// Names the bridge that an interface of ours belongs to; interfaces without it are not ours.
const BRIDGE_KEY: &str = "mose-bridge";

/// An interface of ours, as the database has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PortRecord {
    /// The device.
    pub(crate) device: String,
    /// The OpenFlow port number, once the switch has opened the device.
    pub(crate) ofport: Option<u32>,
    /// Why the switch could not open it.
    pub(crate) error: Option<String>,
    /// What we wrote there.
    pub(crate) ids: BTreeMap<String, String>,
}

/// The database of one bridge.
pub(crate) struct Schema {
    pub(crate) client: OvsdbClient,
    pub(crate) bridge: String,
    /// How long the switch may take to carry out what the database says.
    pub(crate) patience: Duration,
}

fn map<'a>(pairs: impl IntoIterator<Item = (&'a String, &'a String)>) -> Value {
    json!(["map", pairs.into_iter().map(|(k, v)| json!([k, v])).collect::<Vec<_>>()])
}

/// A column that holds nothing or one thing: `["set",[]]` or the thing.
fn optional(value: &Value) -> Option<&Value> {
    (!value.is_array()).then_some(value)
}

fn rows(results: &[Value], at: usize) -> Vec<Value> {
    let rows = results.get(at).and_then(|result| result.get("rows"));
    rows.and_then(Value::as_array).cloned().unwrap_or_default()
}

fn record(row: &Value) -> Option<PortRecord> {
    let ids = row.get("external_ids")?.get(1)?.as_array()?;
    let text = |value: &Value| value.as_str().map(str::to_owned);
    Some(PortRecord {
        device: text(row.get("name")?)?,
        ofport: row
            .get("ofport")
            .and_then(optional)
            .and_then(Value::as_u64)
            .and_then(|n| u32::try_from(n).ok()),
        error: row.get("error").and_then(optional).and_then(text),
        ids: ids.iter().filter_map(|pair| Some((text(pair.get(0)?)?, text(pair.get(1)?)?))).collect(),
    })
}

impl Schema {
    async fn transact(&self, what: &str, operations: Vec<Value>) -> Result<Vec<Value>, CoatError> {
        self.client.transact(what, operations, Duration::ZERO).await
    }

    /// Makes the bridge if it is not there, and sees to it that it drops what no flow matches and speaks OpenFlow 1.4.
    pub(crate) async fn ensure_bridge(&self, datapath: &str) -> Result<(), CoatError> {
        let name = &self.bridge;
        let found = self
            .transact(
                "a look at its bridges",
                vec![
                    json!({ "op": "select", "table": "Bridge", "where": [["name", "==", name]], "columns": ["_uuid"] }),
                    json!({ "op": "select", "table": "Open_vSwitch", "where": [], "columns": ["_uuid"] }),
                ],
            )
            .await?;
        let protocols = json!(["set", ["OpenFlow10", "OpenFlow13", "OpenFlow14"]]);
        let mut operations = Vec::new();
        if rows(&found, 0).is_empty() {
            operations.extend([
                json!({ "op": "insert", "table": "Interface", "uuid-name": "iface",
                    "row": { "name": name, "type": "internal" } }),
                json!({ "op": "insert", "table": "Port", "uuid-name": "port",
                    "row": { "name": name, "interfaces": ["named-uuid", "iface"] } }),
                json!({ "op": "insert", "table": "Bridge", "uuid-name": "bridge",
                    "row": { "name": name, "ports": ["named-uuid", "port"], "fail_mode": "secure",
                        "datapath_type": datapath, "protocols": protocols } }),
            ]);
            if rows(&found, 1).is_empty() {
                operations.push(json!({ "op": "insert", "table": "Open_vSwitch",
                    "row": { "bridges": ["named-uuid", "bridge"] } }));
            } else {
                operations.push(json!({ "op": "mutate", "table": "Open_vSwitch", "where": [],
                    "mutations": [["bridges", "insert", ["named-uuid", "bridge"]]] }));
            }
        } else {
            operations.extend([
                json!({ "op": "update", "table": "Bridge", "where": [["name", "==", name]],
                    "row": { "fail_mode": "secure" } }),
                json!({ "op": "mutate", "table": "Bridge", "where": [["name", "==", name]],
                    "mutations": [["protocols", "insert", protocols]] }),
            ]);
        }
        operations.push(next_cfg());
        self.transact("the bridge", operations).await?;
        Ok(())
    }

    /// Adds a device to the bridge and returns its OpenFlow port number once the switch has opened it.
    pub(crate) async fn add_port(
        &self,
        device: &str,
        mut ids: BTreeMap<String, String>,
    ) -> Result<u32, CoatError> {
        ids.insert(BRIDGE_KEY.to_owned(), self.bridge.clone());
        let ids = map(&ids);
        self.transact(
            "a new port",
            vec![
                json!({ "op": "insert", "table": "Interface", "uuid-name": "iface",
                    "row": { "name": device, "external_ids": ids } }),
                json!({ "op": "insert", "table": "Port", "uuid-name": "port",
                    "row": { "name": device, "interfaces": ["named-uuid", "iface"], "external_ids": ids } }),
                json!({ "op": "mutate", "table": "Bridge", "where": [["name", "==", self.bridge]],
                    "mutations": [["ports", "insert", ["named-uuid", "port"]]] }),
                next_cfg(),
            ],
        )
        .await?;
        self.await_ofport(device).await
    }

    /// Waits until the switch has opened a device, or said why it cannot.
    pub(crate) async fn await_ofport(&self, device: &str) -> Result<u32, CoatError> {
        let milliseconds = u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX);
        let wanted = json!([["name", "==", device]]);
        let waited = self
            .client
            .transact(
                "the wait for a port",
                vec![
                    json!({ "op": "wait", "table": "Interface", "where": wanted, "columns": ["ofport"],
                        "until": "!=", "rows": [{ "ofport": ["set", []] }], "timeout": milliseconds }),
                    json!({ "op": "select", "table": "Interface", "where": wanted,
                        "columns": ["name", "ofport", "error", "external_ids"] }),
                ],
                self.patience,
            )
            .await
            .map_err(|error| match error {
                CoatError::Ovsdb { reason, .. } if reason.contains("timed out") => CoatError::Unreachable {
                    path: self.bridge.clone().into(),
                    reason: format!("{device} was not opened within {milliseconds} ms"),
                    daemon: "ovs-vswitchd",
                },
                other => other,
            })?;
        let found = rows(&waited, 1).first().and_then(record);
        match found {
            Some(PortRecord { ofport: Some(port), .. }) => Ok(port),
            other => Err(CoatError::Port {
                device: device.to_owned(),
                reason: other.and_then(|port| port.error).unwrap_or_else(|| "no reason given".to_owned()),
            }),
        }
    }

    /// Removes a device from the bridge and waits until the switch has let go of it. Does nothing if it is no port.
    pub(crate) async fn remove_port(&self, device: &str) -> Result<(), CoatError> {
        let found = self
            .transact(
                "a look for a port",
                vec![
                    json!({ "op": "select", "table": "Port", "where": [["name", "==", device]], "columns": ["_uuid"] }),
                ],
            )
            .await?;
        let Some(port) = rows(&found, 0).first().and_then(|row| row.get("_uuid").cloned()) else {
            return Ok(());
        };
        let done = self
            .transact(
                "the removal of a port",
                vec![
                    json!({ "op": "mutate", "table": "Bridge", "where": [["name", "==", self.bridge]],
                        "mutations": [["ports", "delete", port]] }),
                    next_cfg(),
                    json!({ "op": "select", "table": "Open_vSwitch", "where": [], "columns": ["next_cfg"] }),
                ],
            )
            .await?;
        let config = rows(&done, 2).first().and_then(|row| row.get("next_cfg")?.as_i64());
        // The switch may be down; then the device is not in use, and the port is gone when it comes back.
        let waited = self
            .client
            .transact(
                "the wait for a port's removal",
                vec![
                    json!({ "op": "wait", "table": "Open_vSwitch", "where": [["cur_cfg", "<", config.unwrap_or(0)]],
                    "columns": ["cur_cfg"], "until": "==", "rows": [],
                    "timeout": u64::try_from(self.patience.as_millis()).unwrap_or(u64::MAX) }),
                ],
                self.patience,
            )
            .await;
        if let Err(error) = waited {
            tracing::warn!(link = device, %error, "the switch did not confirm the removal of a port");
        }
        Ok(())
    }

    /// Changes one of the values written with a port.
    pub(crate) async fn set_id(&self, device: &str, key: &str, value: &str) -> Result<(), CoatError> {
        let change = |table: &str| {
            json!({ "op": "mutate", "table": table, "where": [["name", "==", device]], "mutations": [
                ["external_ids", "delete", ["set", [key]]],
                ["external_ids", "insert", ["map", [[key, value]]]],
            ] })
        };
        let operations = vec![change("Interface"), change("Port")];
        self.transact("a port's record", operations).await?;
        Ok(())
    }

    /// What is written of Open vSwitch, of the bridge and of its ports that are ours.
    pub(crate) async fn recorded(&self) -> Result<Recorded, CoatError> {
        let found = self
            .transact(
                "a look at its bridge",
                vec![
                    json!({ "op": "select", "table": "Open_vSwitch", "where": [], "columns": ["ovs_version"] }),
                    json!({ "op": "select", "table": "Bridge", "where": [["name", "==", self.bridge]],
                        "columns": ["datapath_type"] }),
                ],
            )
            .await?;
        let text = |at: usize, column: &str| {
            Some(optional(rows(&found, at).first()?.get(column)?)?.as_str()?.to_owned())
        };
        let ports = self.ports().await?;
        let faulty =
            |port: &PortRecord| Some(Faulty { device: port.device.clone(), reason: port.error.clone()? });
        Ok(Recorded {
            release: text(0, "ovs_version"),
            datapath: text(1, "datapath_type").map(|name| Datapath::of(&name)),
            ports: ports.len(),
            faulty: ports.iter().filter_map(faulty).collect(),
        })
    }

    /// The bridge's ports that are ours.
    pub(crate) async fn ports(&self) -> Result<Vec<PortRecord>, CoatError> {
        let ids = json!(["map", [[BRIDGE_KEY, self.bridge]]]);
        let found = self
            .transact(
                "a look at its ports",
                vec![
                    json!({ "op": "select", "table": "Interface", "where": [["external_ids", "includes", ids]],
                    "columns": ["name", "ofport", "error", "external_ids"] }),
                ],
            )
            .await?;
        Ok(rows(&found, 0).iter().filter_map(record).collect())
    }
}

/// Counts the configuration up; `cur_cfg` follows when the switch has carried it out.
fn next_cfg() -> Value {
    json!({ "op": "mutate", "table": "Open_vSwitch", "where": [], "mutations": [["next_cfg", "+=", 1]] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_row_is_read_with_and_without_its_optional_columns() {
        let row = json!({ "name": "mo-1", "ofport": 3, "error": ["set", []],
            "external_ids": ["map", [["mose-endpoint", "web"]]] });
        let read = record(&row).unwrap();
        assert_eq!((read.ofport, read.error), (Some(3), None));
        assert_eq!(read.ids["mose-endpoint"], "web");
        let row =
            json!({ "name": "mo-1", "ofport": -1, "error": "no such device", "external_ids": ["map", []] });
        let read = record(&row).unwrap();
        assert_eq!((read.ofport, read.error.as_deref()), (None, Some("no such device")));
        assert!(record(&json!({ "name": 1 })).is_none());
    }
}
