//! Words between Podman and people: what it says, in short, and the names of images, in parts.

/// What Podman says, without the arguments of the commands that it ran, and nothing twice.
pub(super) fn in_short(said: &str) -> String {
    let mut whole = String::new();
    for (number, part) in said.split('`').enumerate() {
        // Every other part is between backquotes.
        let command = number % 2 == 1;
        let mut words = part.split(' ');
        match (words.next(), words.next(), words.next()) {
            (Some(program), Some(verb), Some(_)) if command && program.starts_with('/') => {
                let name = program.rsplit('/').next().unwrap_or(program);
                whole += &format!("`{name} {verb} …`");
            }
            _ if command => whole += &format!("`{part}`"),
            _ => whole += part,
        }
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in whole.split(": ") {
        if !parts.contains(&part) {
            parts.push(part);
        }
    }
    parts.join(": ")
}

/// `host:5000/a/b:tag` as `host:5000/a/b` and `tag`; `None` for a name by digest, which needs no tag.
pub(super) fn repository_and_tag(name: &str) -> Option<(&str, &str)> {
    if name.contains('@') {
        return None;
    }
    match name.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => Some((repository, tag)),
        _ => Some((name, "latest")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_podman_says_is_told_without_arguments_and_once() {
        let said = "`/usr/bin/runc checkpoint --image-path /var/lib/x bf34` failed: exit status 1: \
            `/usr/bin/runc checkpoint --image-path /var/lib/x bf34` failed: exit status 1";
        assert_eq!(in_short(said), "`runc checkpoint …` failed: exit status 1");
        assert_eq!(in_short("no container `web`: 404"), "no container `web`: 404");
        assert_eq!(in_short("an odd ` alone"), "an odd ` alone`");
    }

    #[test]
    fn an_images_port_is_no_tag() {
        assert_eq!(repository_and_tag("localhost/x:v1"), Some(("localhost/x", "v1")));
        assert_eq!(repository_and_tag("host:5000/x"), Some(("host:5000/x", "latest")));
        assert_eq!(repository_and_tag("host:5000/x:v1"), Some(("host:5000/x", "v1")));
        assert_eq!(repository_and_tag("x@sha256:00"), None);
    }
}
