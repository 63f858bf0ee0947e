//! A container made with a stand-in for its image, which is not here yet: what would come out different shows before a gigabyte of
//! image is sent for nothing.
//!
//! What comes of a container's configuration depends on the host, and on little of the image: the names of users, and that its
//! program and its working folder are there. The stand-in has just these.

use mose_protocol::Refusal;
use mose_protocol::handover::Task;
use serde_json::Value;

use super::description::archive::{LONGEST_NAME, archive};
use super::description::{self, essence};
use super::inspect::container;
use super::making::different;
use super::{CALL_DEADLINE, PodmanEngine, hooks, runtime_config};
use crate::{Described, Engine};

/// The name of the stand-ins; each migration has its own as a tag, since several may come at a time.
const NAME: &str = "localhost/mose-stand-in";

/// Where programs are looked for if the container does not say.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What a stand-in tells nothing of: variables and groups may come from the image.
const FROM_THE_IMAGE: [&str; 2] = ["environment", "user"];

impl PodmanEngine {
    /// Refuses a container that would come out different here, by a container that is made and removed again. What cannot be found
    /// out so is no refusal: the container is compared once more when its image is here.
    pub(super) async fn rehearse_with_stand_in(
        &self,
        task: &Task,
        described: &Described,
    ) -> Result<(), Refusal> {
        let description = &described.container;
        description::sound(description)?;
        let found = self.found_with_stand_in(task, described).await;
        self.discard_arrived(task, &described.container).await?;
        let removed = self.socket.delete("remove an image", &format!("/images/{}", name(task))).await;
        if let Err(refusal) = removed {
            tracing::warn!(%refusal, "a stand-in for an image stays");
        }
        match found {
            Ok(found) => {
                let differences =
                    essence::differences(&comparable(&description.essence), &comparable(&found));
                if differences.is_empty() { Ok(()) } else { Err(different(&task.service, &differences)) }
            }
            Err(refusal) => {
                tracing::info!(%refusal, "whether it would come out the same shows when its image is here");
                Ok(())
            }
        }
    }

    async fn found_with_stand_in(&self, task: &Task, described: &Described) -> Result<Value, Refusal> {
        hooks::check_configured()?;
        let mut config = described.container.config.clone();
        let path = format!("/images/import?reference={}", name(task));
        let files = files(&described.container.essence, &config);
        let files: Vec<_> = files.iter().map(|(name, content)| (name.as_str(), content.as_bytes())).collect();
        let image = self.socket.post_bytes(
            "make an image",
            &path,
            "application/x-tar",
            archive(&files),
            CALL_DEADLINE,
        );
        let image = image.await?;
        // As libpod's configuration has it.
        let id = image["Id"].as_str().map(|id| id.strip_prefix("sha256:").unwrap_or(id));
        config["rootfsImageID"] = id.into();
        config["rootfsImageName"] = name(task).into();
        self.import(task, described, &mut config).await?;
        // The OCI configuration is written before the runtime is asked, which may still miss something of the image.
        let initialised = self.initialise(&task.service).await;
        let inspect = self.inspect_raw(task.service.as_str()).await?;
        let container = container(&task.service, &inspect)?;
        let runtime = runtime_config(&container).map_err(|refusal| initialised.err().unwrap_or(refusal))?;
        config["runtime"] = inspect["OCIRuntime"].clone();
        Ok(essence::essence(&runtime, &config, &container.id))
    }
}

fn name(task: &Task) -> String {
    format!("{NAME}:{}", task.migration)
}

/// An essence without what comes from the image.
fn comparable(essence: &Value) -> Value {
    let mut essence = essence.clone();
    if let Some(parts) = essence.as_object_mut() {
        parts.retain(|part, _| !FROM_THE_IMAGE.contains(&part.as_str()));
    }
    essence
}

/// The files and folders of a stand-in, by their names in an archive.
fn files(essence: &Value, config: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let id = |part: &str| essence["user"][part].as_u64().unwrap_or(0);
    let (uid, gid) = (id("uid"), id("gid"));
    let (user, group) = match text(&config["user"]).split_once(':') {
        Some((user, group)) => (user.to_owned(), group.to_owned()),
        None => (text(&config["user"]), text(&config["user"])),
    };
    let named = |name: &str| !name.is_empty() && name.parse::<u32>().is_err() && name != "root";
    let mut passwd = "root:x:0:0:root:/root:/bin/sh\n".to_owned();
    if named(&user) {
        passwd.push_str(&format!("{user}:x:{uid}:{gid}::/:/bin/sh\n"));
    }
    let mut groups = "root:x:0:\n".to_owned();
    if named(&group) {
        groups.push_str(&format!("{group}:x:{gid}:\n"));
    }
    let mut files = vec![
        ("etc/".to_owned(), String::new()),
        ("etc/passwd".to_owned(), passwd),
        ("etc/group".to_owned(), groups),
        (format!("{}/", text(&essence["working folder"]).trim_matches('/')), String::new()),
        (
            program(&text(&essence["args"][0]), essence["environment"]["PATH"].as_str().unwrap_or(PATH)),
            String::new(),
        ),
    ];
    files.retain(|(name, _)| name != "/" && !name.is_empty() && name.len() <= LONGEST_NAME && !is_odd(name));
    files
}

/// Where a program is looked for first.
fn program(name: &str, path: &str) -> String {
    let place = if name.contains('/') {
        name.to_owned()
    } else {
        format!("{}/{name}", path.split(':').next().unwrap_or("/bin"))
    };
    place.trim_matches('/').to_owned()
}

/// Whether a name leads out of its folder.
fn is_odd(name: &str) -> bool {
    name.split('/').any(|part| part == "..")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn names(essence: &Value, config: &Value) -> Vec<String> {
        files(essence, config).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn a_stand_in_has_user_program_and_working_folder() {
        let essence = json!({
            "args": ["redis-server", "--save"], "working folder": "/data", "user": {"uid": 999, "gid": 998},
            "environment": {"PATH": "/opt/bin:/bin"},
        });
        let config = json!({"user": "redis:cache"});
        assert_eq!(
            names(&essence, &config),
            ["etc/", "etc/passwd", "etc/group", "data/", "opt/bin/redis-server"]
        );
        let files = files(&essence, &config);
        assert!(files[1].1.contains("\nredis:x:999:998:"), "{files:?}");
        assert!(files[2].1.contains("\ncache:x:998:"), "{files:?}");
    }

    #[test]
    fn a_program_by_its_path_is_there_and_nothing_lies_outside() {
        let essence = json!({"args": ["/entry.sh"], "working folder": "/", "user": {}});
        assert_eq!(names(&essence, &json!({})), ["etc/", "etc/passwd", "etc/group", "entry.sh"]);
        let outside = json!({"args": ["../../entry.sh"], "working folder": "/../x"});
        assert_eq!(names(&outside, &json!({})), ["etc/", "etc/passwd", "etc/group"]);
    }

    #[test]
    fn what_an_image_decides_is_not_compared() {
        let of = |user: u32, pids: u32| json!({"user": user, "environment": {"HOME": user.to_string()}, "resources": pids});
        assert!(essence::differences(&comparable(&of(1, 5)), &comparable(&of(2, 5))).is_empty());
        assert_eq!(essence::differences(&comparable(&of(1, 5)), &comparable(&of(1, 6))).len(), 1);
    }
}
