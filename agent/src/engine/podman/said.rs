//! What Podman says of a failure, as people can read it.

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
}
