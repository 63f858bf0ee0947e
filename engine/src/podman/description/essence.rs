//! What of a container's OCI runtime configuration must come back the same on the other host, and in what two of them differ.

use std::path::Path;

use mose_protocol::envelope::without_values;
use mose_protocol::{Refusal, RefusalCode};
use serde_json::{Map, Value, json};

use super::super::inspect::is_own;
use super::{elements, text};

/// The field whose values are never told: people keep passwords there.
const ENVIRONMENT: &str = "environment";

/// What must come back the same, out of an OCI runtime configuration. Secrets in its environment are left out, as their values
/// stand there. `id` is the container's, by which its own folders are known.
pub(in super::super) fn essence(runtime: &Value, config: &Value, id: &str) -> Value {
    let process = &runtime["process"];
    let linux = &runtime["linux"];
    let mut mounts: Vec<String> =
        elements(&runtime["mounts"]).iter().map(|mount| mounted(mount, config, id)).collect();
    mounts.sort_unstable();
    json!({
        "args": process["args"],
        ENVIRONMENT: environment(&process["env"], &config["secret_env"]),
        "working folder": process["cwd"],
        "user": process["user"],
        "capabilities": process["capabilities"],
        "rlimits": array(&process["rlimits"]),
        "no new privileges": process["noNewPrivileges"],
        "AppArmor profile": process["apparmorProfile"],
        "SELinux label": process["selinuxLabel"],
        "terminal": process["terminal"],
        "oom score": process["oomScoreAdj"],
        "host name": runtime["hostname"],
        "read-only root": runtime["root"]["readonly"],
        "mounts": mounts,
        "resources": resources(&linux["resources"]),
        "sysctls": object(&linux["sysctl"]),
        "masked paths": linux["maskedPaths"],
        "read-only paths": linux["readonlyPaths"],
        "personality": linux["personality"],
        "seccomp": linux["seccomp"],
        "OCI runtime": config["runtime"],
    })
}

fn array(value: &Value) -> Value {
    if value.is_array() { value.clone() } else { json!([]) }
}

fn object(value: &Value) -> Value {
    if value.is_object() { value.clone() } else { json!({}) }
}

/// `["A=b"]` as `{"A": "b"}`, without the names that `secrets` has.
fn environment(list: &Value, secrets: &Value) -> Value {
    elements(list)
        .iter()
        .filter_map(|line| line.as_str()?.split_once('='))
        .filter(|(name, _)| secrets.get(name).is_none())
        .map(|(name, value)| (name.to_owned(), value.into()))
        .collect::<Map<_, _>>()
        .into()
}

/// A mount as it must come back. From where is told of what lies neither in the container's own folders nor in a volume.
fn mounted(mount: &Value, config: &Value, id: &str) -> String {
    let (destination, kind) = (text(&mount["destination"]), text(&mount["type"]));
    let source = Path::new(text(&mount["source"]));
    let is_volume = elements(&config["namedVolumes"]).iter().any(|volume| volume["dest"] == destination);
    if kind == "bind" && !is_volume && !is_own(source, id) {
        format!("{destination} ({kind} of {})", source.display())
    } else {
        format!("{destination} ({kind})")
    }
}

/// Limits on resources, but not the device rules, which the engine makes itself.
fn resources(value: &Value) -> Value {
    let Some(all) = value.as_object() else { return Value::Null };
    all.iter()
        .filter(|(key, _)| key.as_str() != "devices")
        .map(|(key, value)| (key.clone(), value.clone()))
        .collect::<Map<_, _>>()
        .into()
}

/// In what the container that was made differs from the one described; empty where it does not.
pub(in super::super) fn differences(wanted: &Value, found: &Value) -> Vec<String> {
    let Some(wanted) = wanted.as_object() else {
        return vec!["the description lacks its runtime configuration".into()];
    };
    wanted
        .iter()
        .filter(|(key, value)| &&found[key.as_str()] != value)
        .map(|(key, value)| difference(key, value, &found[key.as_str()]))
        .collect()
}

fn difference(key: &str, wanted: &Value, found: &Value) -> String {
    if key == ENVIRONMENT {
        return format!("{key}: {}", differing_names(wanted, found).join(", "));
    }
    format!("{key}: {} instead of {}", shortened(found), shortened(wanted))
}

/// The names of variables that are missing, new or of another value.
fn differing_names(wanted: &Value, found: &Value) -> Vec<String> {
    let empty = Map::new();
    let (wanted, found) = (wanted.as_object().unwrap_or(&empty), found.as_object().unwrap_or(&empty));
    let missing = wanted.iter().filter_map(|(name, value)| match found.get(name) {
        None => Some(format!("{name} is missing")),
        Some(other) => (other != value).then(|| format!("{name} has another value")),
    });
    let new = found.keys().filter(|name| !wanted.contains_key(*name)).map(|name| format!("{name} is new"));
    missing.chain(new).collect()
}

fn shortened(value: &Value) -> String {
    let text = value.to_string();
    if text.len() <= 300 { text } else { text.chars().take(300).chain("…".chars()).collect() }
}

/// The OCI runtime configuration that libpod wrote for a container.
pub(in super::super) fn runtime_config(path: &Path) -> Result<Value, Refusal> {
    let refusal = |reason: String| {
        Refusal::new(
            RefusalCode::Engine,
            format!("the container's runtime configuration {} {reason}", path.display()),
            "the agent must run on the same host, and as the same user, as its Podman",
        )
    };
    let bytes = std::fs::read(path).map_err(|error| refusal(format!("cannot be read: {error}")))?;
    serde_json::from_slice(&bytes)
        .map_err(|error| refusal(format!("is not JSON: {}", without_values(&error))))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(runtime: &Value) -> Value {
        let config = json!({"secret_env": {"TOKEN": {"name": "token"}}, "runtime": "runc"});
        essence(runtime, &config, "1a")
    }

    #[test]
    fn a_container_that_came_out_different_is_seen() {
        let wanted = of(&json!({"process": {"args": ["a"], "env": ["B=1", "A=1"]}}));
        let same = of(&json!({"process": {"args": ["a"], "env": ["A=1", "B=1"]}}));
        assert_eq!(differences(&wanted, &same), Vec::<String>::new());
        let other = of(&json!({"process": {"args": ["b"], "env": ["A=1", "B=1"]}}));
        assert_eq!(differences(&wanted, &other), vec![r#"args: ["b"] instead of ["a"]"#]);
    }

    #[test]
    fn of_the_environment_only_names_are_told() {
        let wanted = of(&json!({"process": {"env": ["A=hunter1", "B=hunter2", "C=1"]}}));
        let found = of(&json!({"process": {"env": ["A=hunter3", "C=1", "D=hunter4"]}}));
        let told = differences(&wanted, &found);
        assert_eq!(told, ["environment: A has another value, B is missing, D is new"]);
    }

    #[test]
    fn a_secret_is_in_no_essence() {
        let essence = of(&json!({"process": {"env": ["TOKEN=hunter2", "A=1"]}}));
        assert!(!essence.to_string().contains("hunter2"), "{essence}");
        assert_eq!(essence[ENVIRONMENT], json!({"A": "1"}));
    }

    #[test]
    fn mounts_from_the_containers_own_folders_may_come_from_elsewhere() {
        let mount = |source: &str| {
            of(&json!({"mounts": [{"destination": "/etc/hosts", "type": "bind", "source": source}]}))
        };
        assert_eq!(mount("/c/1a/userdata/hosts")["mounts"], json!(["/etc/hosts (bind)"]));
        let own = mount("/srv/hosts");
        assert_eq!(own["mounts"], json!(["/etc/hosts (bind of /srv/hosts)"]));
        assert_eq!(differences(&own, &mount("/c/1a/userdata/hosts")).len(), 1);
    }
}
