//! One parameter of a calibration: its value and, where it was measured, how sure one may be of it.

use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize, Serializer};

/// A parameter of the model. In TOML a bare number, or `{ value = 40, ci90 = [38, 42] }`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Parameter {
    /// Its value, in the unit that its name's documentation says.
    pub value: f64,
    /// The interval that covers the true value with 90 % confidence, if the parameter was measured.
    pub ci90: Option<[f64; 2]>,
}

impl Parameter {
    /// A parameter that is set, not measured.
    #[must_use]
    pub const fn exact(value: f64) -> Self {
        Self { value, ci90: None }
    }
}

impl From<f64> for Parameter {
    fn from(value: f64) -> Self {
        Self::exact(value)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Measured {
    value: f64,
    ci90: [f64; 2],
}

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Parameter {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Parameter".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "description": "A parameter of the model: a number, or its value with how sure one may be of it.",
            "anyOf": [
                { "type": "number" },
                {
                    "type": "object",
                    "properties": {
                        "value": { "description": "Its value.", "type": "number" },
                        "ci90": {
                            "description": "The interval that covers the true value with 90 % confidence.",
                            "type": "array", "items": { "type": "number" }, "minItems": 2, "maxItems": 2
                        }
                    },
                    "required": ["value", "ci90"]
                }
            ]
        })
    }
}

impl Serialize for Parameter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.ci90 {
            None => serializer.serialize_f64(self.value),
            Some(ci90) => Measured { value: self.value, ci90 }.serialize(serializer),
        }
    }
}

impl<'de> Deserialize<'de> for Parameter {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NumberOrMeasured)
    }
}

struct NumberOrMeasured;

impl<'de> Visitor<'de> for NumberOrMeasured {
    type Value = Parameter;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a number, or a table such as { value = 40, ci90 = [38, 42] }")
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Parameter, E> {
        Ok(Parameter::exact(value))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Parameter, E> {
        Ok(Parameter::exact(value as f64))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Parameter, E> {
        Ok(Parameter::exact(value as f64))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Parameter, A::Error> {
        let Measured { value, ci90 } = Measured::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(Parameter { value, ci90: Some(ci90) })
    }
}
