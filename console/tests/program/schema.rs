//! As much of JSON Schema (draft 2020-12) as the program's schemas use, and no more: a keyword that is not known here is an
//! error, so that nothing passes because it was not looked at. Stricter in one thing: every key must be described.

use serde_json::{Map, Value};

/// Keywords that say nothing about whether a document fits.
const SILENT: [&str; 6] = ["$schema", "$defs", "title", "description", "default", "format"];

/// Where and why a document does not fit a schema.
pub(crate) fn violations(schema: &Value, document: &Value) -> Vec<String> {
    let mut found = Vec::new();
    Look { root: schema }.at(schema, document, "", &mut found);
    found
}

/// Calls `visit` for each property of each object that a schema describes.
pub(crate) fn each_property(schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    match schema {
        Value::Object(keywords) => {
            for (keyword, value) in keywords {
                if let ("properties", Some(properties)) = (keyword.as_str(), value.as_object()) {
                    properties.iter().for_each(|(key, property)| visit(key, property));
                    properties.values().for_each(|property| each_property(property, visit));
                } else {
                    each_property(value, visit);
                }
            }
        }
        Value::Array(schemas) => schemas.iter().for_each(|schema| each_property(schema, visit)),
        _ => {}
    }
}

struct Look<'a> {
    root: &'a Value,
}

impl Look<'_> {
    fn at(&self, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
        let Value::Object(keywords) = schema else {
            if schema != &Value::Bool(true) {
                found.push(format!("{path}: nothing may be here"));
            }
            return;
        };
        if let (Some(object), None) = (value.as_object(), keywords.get("$ref"))
            && !["anyOf", "oneOf"].iter().any(|any| keywords.contains_key(*any))
            && keywords.get("additionalProperties").is_none_or(|others| others == &Value::Bool(false))
        {
            let none = Map::new();
            let described = keywords.get("properties").and_then(Value::as_object).unwrap_or(&none);
            let undescribed = object.keys().filter(|key| !described.contains_key(*key));
            found.extend(undescribed.map(|key| format!("{path}/{key}: not described")));
        }
        for (keyword, expected) in keywords {
            self.keyword(keyword, expected, keywords, value, path, found);
        }
    }

    fn keyword(
        &self,
        keyword: &str,
        expected: &Value,
        keywords: &Map<String, Value>,
        value: &Value,
        path: &str,
        found: &mut Vec<String>,
    ) {
        let mut holds = |holds: bool| {
            if !holds {
                found.push(format!("{path}: {keyword} {expected} does not hold for {value}"));
            }
        };
        match keyword {
            silent if SILENT.contains(&silent) => {}
            // What is not described by name; `false` says nothing that does not hold everywhere here.
            "additionalProperties" if expected != &Value::Bool(false) => {
                let described = keywords.get("properties").and_then(Value::as_object);
                for (key, value) in value.as_object().into_iter().flatten() {
                    if !described.is_some_and(|described| described.contains_key(key)) {
                        self.at(expected, value, &format!("{path}/{key}"), found);
                    }
                }
            }
            "additionalProperties" => {}
            "type" => holds(match expected {
                Value::Array(any) => any.iter().any(|one| is(one.as_str().unwrap(), value)),
                one => is(one.as_str().unwrap(), value),
            }),
            "const" => holds(value == expected),
            "enum" => holds(expected.as_array().unwrap().contains(value)),
            "minimum" => holds(value.as_f64().is_none_or(|number| number >= expected.as_f64().unwrap())),
            "maximum" => holds(value.as_f64().is_none_or(|number| number <= expected.as_f64().unwrap())),
            "maxLength" => {
                holds(
                    value
                        .as_str()
                        .is_none_or(|text| text.chars().count() as u64 <= expected.as_u64().unwrap()),
                );
            }
            "minItems" => {
                holds(value.as_array().is_none_or(|all| all.len() as u64 >= expected.as_u64().unwrap()))
            }
            "maxItems" => {
                holds(value.as_array().is_none_or(|all| all.len() as u64 <= expected.as_u64().unwrap()))
            }
            "uniqueItems" => holds(
                value
                    .as_array()
                    .is_none_or(|all| all.iter().enumerate().all(|(at, one)| !all[..at].contains(one))),
            ),
            "pattern" => {
                assert_eq!(expected, "^[A-Za-z0-9][A-Za-z0-9_.-]*$", "the only pattern that is known here");
                let text = value.as_str().unwrap_or_default();
                let rest = text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c));
                holds(rest && text.starts_with(|c: char| c.is_ascii_alphanumeric()));
            }
            "required" => {
                for key in expected.as_array().unwrap() {
                    let key = key.as_str().unwrap();
                    if value.as_object().is_some_and(|object| !object.contains_key(key)) {
                        found.push(format!("{path}/{key}: missing"));
                    }
                }
            }
            "properties" => {
                for (key, schema) in expected.as_object().unwrap() {
                    if let Some(value) = value.get(key) {
                        self.at(schema, value, &format!("{path}/{key}"), found);
                    }
                }
            }
            "items" => {
                let first = keywords.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len);
                for (at, value) in value.as_array().into_iter().flatten().enumerate().skip(first) {
                    self.at(expected, value, &format!("{path}/{at}"), found);
                }
            }
            "prefixItems" => {
                let schemas = expected.as_array().unwrap();
                for (at, (schema, value)) in
                    schemas.iter().zip(value.as_array().into_iter().flatten()).enumerate()
                {
                    self.at(schema, value, &format!("{path}/{at}"), found);
                }
            }
            "anyOf" | "oneOf" => {
                let fit = expected.as_array().unwrap().iter().filter(|schema| {
                    let mut inner = Vec::new();
                    self.at(schema, value, path, &mut inner);
                    inner.is_empty()
                });
                let count = fit.count();
                holds(if keyword == "oneOf" { count == 1 } else { count > 0 });
            }
            "$ref" => {
                let pointer = expected.as_str().unwrap().strip_prefix('#').unwrap();
                self.at(self.root.pointer(pointer).unwrap(), value, path, found);
            }
            other => panic!("{path}: the keyword `{other}` is not known here"),
        }
    }
}

fn is(kind: &str, value: &Value) -> bool {
    match kind {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("`{other}` is no type"),
    }
}
