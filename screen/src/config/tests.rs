//! The settings: the commented file tells the default and every setting, and what is wrong in a file is named with its place.

use proptest::prelude::*;

use super::*;

/// The commented file with every setting in force: those are written `#name = …`, prose `# …`.
fn uncommented() -> String {
    COMMENTED
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(rest) if rest.starts_with(|c: char| c != ' ' && c != '#') => rest,
            _ => line,
        })
        .fold(String::new(), |text, line| text + line + "\n")
}

fn fault(text: &str) -> String {
    Config::parse(text, "config.toml").unwrap_err().to_string()
}

/// The settings of a table, those of inner tables as `table.setting`.
fn settings(value: &serde_json::Value, prefix: &str) -> Vec<String> {
    let table = value.as_object().unwrap();
    table
        .iter()
        .flat_map(|(name, value)| match value {
            serde_json::Value::Object(_) => settings(value, &format!("{prefix}{name}.")),
            _ => vec![format!("{prefix}{name}")],
        })
        .collect()
}

#[test]
fn the_commented_file_is_the_default_and_leaves_no_setting_out() {
    assert_eq!(Config::parse(COMMENTED, "config.toml"), Ok(Config::default()));
    let text = uncommented();
    assert_eq!(Config::parse(&text, "config.toml"), Ok(Config::default()));
    let written: serde_json::Value = toml::from_str(&text).unwrap();
    let mut written = settings(&written, "");
    let mut all = settings(&serde_json::to_value(Config::default()).unwrap(), "");
    written.sort();
    all.sort();
    assert_eq!(written, all);
}

#[test]
fn every_line_of_the_commented_file_can_be_taken_by_itself() {
    let text = uncommented();
    let mut table = String::new();
    for line in text.lines() {
        if line.starts_with('[') {
            table = format!("{line}\n");
        } else if !line.is_empty() && !line.starts_with('#') {
            assert_eq!(
                Config::parse(&format!("{table}{line}"), "config.toml"),
                Ok(Config::default()),
                "{line}"
            );
        }
    }
}

#[test]
fn every_setting_of_the_commented_file_is_explained_and_has_its_effect() {
    for (at, line) in
        COMMENTED.lines().enumerate().filter(|(_, line)| !line.starts_with("# ") && line.contains('='))
    {
        let before = COMMENTED.lines().nth(at - 1).unwrap();
        assert!(before.starts_with("# ") || before.contains('='), "line {}: {line}", at + 1);
    }
    let text = "theme = 'light'\nunit = 'deviation'\n[targets]\ndowntime = '0.2s'\nrounds-rule = 'paper'\n[vehicle]\nspeed = '18 km/h'\nmass = 4";
    let config = Config::parse(text, "config.toml").unwrap();
    assert_eq!((config.theme.as_str(), config.unit), ("light", Unit::Deviation));
    assert_eq!(config.targets.downtime, Millis(200.0));
    assert_eq!(config.targets.rounds_rule, RoundsRule::Paper);
    assert_eq!(config.vehicle(), Vehicle { mass: 4.0, ..Vehicle::going_on(MetresPerSec(5.0)) });
    assert_eq!(config.frame_rate(), FramesPerSec(30.0));
    assert_eq!(config.handovers(), Handovers { count: 10, window: Millis(3.6e6) });
}

#[test]
fn an_unknown_setting_is_named_with_its_place_and_the_nearest_known_one() {
    assert_eq!(
        fault("mouse = true\nthem = 'dark'"),
        "config.toml:2:1: there is no setting `them`: did you mean `theme`?"
    );
    assert_eq!(
        fault("[targets]\ndown-time = '1s'"),
        "config.toml:2:1: there is no setting `down-time`: did you mean `downtime`?"
    );
    let far = fault("[frames]\nspeed = 30");
    assert_eq!(far, "config.toml:2:1: there is no setting `speed`: known here: `rate`");
}

#[test]
fn what_cannot_be_is_named_with_its_place_and_a_remedy() {
    assert_eq!(
        fault("\nhistory = 0"),
        "config.toml:2:11: `history` must be from 1 to 100000: correct it, or leave the line out for the default"
    );
    for (text, place, reason) in [
        ("refresh = '1ms'", "1:11", "`refresh` must be from 10ms to 10s"),
        ("refresh = '100'", "1:11", "it has no unit"),
        ("refresh = 100", "1:11", "invalid type: integer `100`, expected a string"),
        ("mouse = 'yes'", "1:9", "expected a boolean"),
        ("unit = 'feet'", "1:8", "known here: `seconds`, `deviation`, `frames`, `availability`"),
        ("stale-after = '0s'", "1:15", "`stale-after` must be"),
        ("[targets]\nobjective = 'speed'", "2:13", "known here: `downtime`, `resources`"),
        ("[targets]\nrounds-rule = 'most'", "2:15", "known here: `enough`, `paper`"),
        ("[targets]\ndowntime = '0ms'", "2:12", "`targets.downtime` must be from 1ms to 1h"),
        ("vehicle = { mass = -1 }", "1:20", "`vehicle.mass` must be zero or above"),
        ("vehicle.braking-force = nan", "1:25", "`vehicle.braking-force` must be above zero"),
        ("[vehicle]\nspeed = '5 knots'", "2:9", "its unit is of another kind"),
        ("[frames]\nrate = inf", "2:8", "`frames.rate` must be above zero"),
        ("[availability]\nhandovers = 0", "2:13", "`availability.handovers` must be at least 1"),
        ("[files]\nkeymap = ''", "2:10", "`files.keymap` must be a path"),
        ("theme = ", "1:9", ""),
    ] {
        let error = fault(text);
        assert!(
            error.starts_with(&format!("config.toml:{place}: ")) && error.contains(reason),
            "{text}: {error}"
        );
    }
}

#[test]
fn the_schema_knows_every_setting_and_its_meaning() {
    let schema = Config::schema().to_value();
    assert_eq!(schema["additionalProperties"], false);
    let properties = schema["properties"].as_object().unwrap();
    let default = serde_json::to_value(Config::default()).unwrap();
    for (name, value) in default.as_object().unwrap() {
        assert!(properties[name]["description"].is_string(), "{name}");
        assert_eq!(properties[name]["default"], *value, "{name}");
    }
    assert_eq!(properties.len(), default.as_object().unwrap().len());
    let targets = &schema["$defs"]["Targets"]["properties"];
    assert_eq!(targets["objective"]["enum"], serde_json::json!(["downtime", "resources"]));
    assert_eq!(targets["rounds-rule"]["enum"], serde_json::json!(["enough", "paper"]));
}

proptest! {
    #[test]
    fn a_config_is_read_as_it_was_written(
        refresh in 10.0..1e4_f64, downtime in 1.0..3.6e6_f64, speed in 1e-3..1e3_f64, mass in 1e-3..1e3_f64,
        history in 1..100_000_usize, ascii: bool,
    ) {
        let mut config = Config { refresh: Millis(refresh), history, ascii, ..Config::default() };
        config.targets.downtime = Millis(downtime);
        config.vehicle.speed = MetresPerSec(speed);
        config.vehicle.mass = mass;
        let text = toml::to_string(&config).unwrap();
        prop_assert_eq!(Config::parse(&text, "config.toml"), Ok(config));
    }

    #[test]
    fn any_text_is_a_config_or_an_error(text in "([a-z\\-]{1,8} = )?[ -~\n]{0,60}") {
        let _ = Config::parse(&text, "config.toml").map_err(|error| error.to_string());
    }
}
