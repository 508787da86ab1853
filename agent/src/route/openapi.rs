//! Routes declared as an OpenAPI 3 or Swagger 2 document, JSON or YAML. Lists of lines are read in `lines`.
//!
//! Only `paths`, `servers` and `basePath` matter here; the rest of the document is not checked.

use serde_json::Value;

use super::{RouteError, Routes, method};

/// The keys of a path item that are operations (OpenAPI 3.2 section 4.8.9; Swagger 2 has the first seven).
const OPERATIONS: [&str; 9] = ["get", "put", "post", "delete", "options", "head", "patch", "trace", "query"];

impl Routes {
    /// Reads the operations of an OpenAPI 3 or Swagger 2 document, JSON or YAML.
    ///
    /// The path of each server (`servers[].url` of the operation, else of the path, else of the document, with the
    /// defaults of its variables; `basePath` in Swagger 2) comes before the path, so one operation with servers under
    /// `/v1` and `/v2` makes two routes.
    ///
    /// # Errors
    ///
    /// The document is neither JSON nor YAML, has no `paths`, refers to another file for a path, or declares a path that
    /// [`Routes::parse_lines`] would refuse too.
    pub fn parse_openapi(text: &str) -> Result<Self, RouteError> {
        let document = read(text.trim_start_matches('\u{feff}'))?;
        let is_v2 = document.get("swagger").is_some();
        if !is_v2 && document.get("openapi").is_none() {
            let wanted = "an `openapi` or a `swagger` key with the version";
            let hint = "an OpenAPI 3 or Swagger 2 document, or lines like `GET /jobs/{id}`";
            return Err(RouteError::new(&keys(&document), wanted, hint).at("document"));
        }
        let Some(paths) = document.get("paths").and_then(Value::as_object) else {
            let hint = "an OpenAPI document without paths declares no route";
            return Err(RouteError::new(&keys(&document), "a `paths` object", hint).at("document"));
        };
        let default = if is_v2 { base_path(&document) } else { None };
        let default = default.or_else(|| servers(&document)).unwrap_or_else(|| vec![String::new()]);
        let mut routes = Self::default();
        for (path, item) in paths.iter().filter(|(path, _)| !path.starts_with("x-")) {
            let place = format!("path {path:?}");
            routes.declare_item(&document, &default, path, item).map_err(|error| error.at(place))?;
        }
        Ok(routes)
    }

    fn declare_item(
        &mut self,
        document: &Value,
        default: &[String],
        path: &str,
        item: &Value,
    ) -> Result<(), RouteError> {
        let item = resolve(document, item)?;
        // Some generators tell operations apart by query or fragment, which is the same route to us.
        let path = path.split(['?', '#']).next().unwrap_or_default();
        let of_item = servers(item);
        for key in OPERATIONS {
            let Some(operation) = item.get(key) else { continue };
            let Some(method) = method::registered(key.to_ascii_uppercase().as_bytes()) else { continue };
            let of_operation = servers(operation);
            let prefixes = of_operation.as_deref().or(of_item.as_deref()).unwrap_or(default);
            for prefix in prefixes {
                self.declare(method, &format!("{prefix}{path}"))?;
            }
        }
        Ok(())
    }
}

/// JSON is nearly a part of YAML, but its own reader is faster and says better what is wrong with it.
fn read(text: &str) -> Result<Value, RouteError> {
    let outcome = if text.trim_start().starts_with('{') {
        serde_json::from_str(text).map_err(|error| error.to_string())
    } else {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    };
    outcome.map_err(|error: String| {
        let first_line = error.lines().next().unwrap_or_default();
        RouteError::new(first_line, "a JSON or YAML document", "check the file with the tool that wrote it")
            .at("document")
    })
}

/// Follows a path item's `$ref` within the document.
fn resolve<'a>(document: &'a Value, item: &'a Value) -> Result<&'a Value, RouteError> {
    let Some(reference) = item.get("$ref").and_then(Value::as_str) else { return Ok(item) };
    reference.strip_prefix('#').and_then(|pointer| document.pointer(pointer)).ok_or_else(|| {
        let wanted = "a reference to a part of this document";
        RouteError::new(reference, wanted, "bundle the document into one file; no other file is read")
    })
}

/// The path prefixes of a `servers` list; none if there is no such list or it is empty.
fn servers(holder: &Value) -> Option<Vec<String>> {
    let list = holder.get("servers")?.as_array()?;
    let mut prefixes = Vec::new();
    for server in list {
        let mut url = server.get("url")?.as_str()?.to_owned();
        for (name, variable) in server.get("variables").and_then(Value::as_object).into_iter().flatten() {
            if let Some(default) = variable.get("default").and_then(Value::as_str) {
                url = url.replace(&format!("{{{name}}}"), default);
            }
        }
        let prefix = path_of_url(&url);
        if !prefixes.contains(&prefix) {
            prefixes.push(prefix);
        }
    }
    (!prefixes.is_empty()).then_some(prefixes)
}

fn base_path(document: &Value) -> Option<Vec<String>> {
    Some(vec![path_of_url(document.get("basePath")?.as_str()?)])
}

/// The path of an absolute or relative URL, with a slash before it and none after.
fn path_of_url(url: &str) -> String {
    let after_host = match url.split_once("://").map(|(_, rest)| rest).or_else(|| url.strip_prefix("//")) {
        Some(rest) => rest.split_once('/').map_or("", |(_, path)| path),
        None => url,
    };
    let path = after_host.split(['?', '#']).next().unwrap_or_default().trim_matches('/');
    if path.is_empty() { String::new() } else { format!("/{path}") }
}

/// What stands at the top of the document, for an error.
fn keys(document: &Value) -> String {
    let Some(object) = document.as_object() else { return document.to_string() };
    object.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use crate::route::Routes;

    fn routes(text: &str) -> Vec<String> {
        let routes = Routes::parse_openapi(text).unwrap();
        let mut list: Vec<String> = routes.iter().map(|(method, path)| format!("{method} {path}")).collect();
        list.sort();
        list
    }

    #[test]
    fn yaml_with_servers_at_three_levels() {
        let text = "
openapi: 3.1.0
info: {title: t, version: '1'}
servers:
  - url: https://{host}:8443/{base}/
    variables:
      host: {default: example.org}
      base: {default: api/v1, enum: [api/v1, api/v2]}
  - url: /beta
paths:
  /jobs:
    get: {responses: {200: {description: ok}}}
    post:
      servers: [{url: /}]
  /nodes/{id}:
    servers: [{url: 'https://example.org/fleet'}]
    parameters: []
    delete: {}
  /shared:
    $ref: '#/components/pathItems/shared'
  x-note: {anything: 1}
components:
  pathItems:
    shared: {head: {}}
";
        assert_eq!(
            routes(text),
            [
                "DELETE /fleet/nodes/{id}",
                "GET /api/v1/jobs",
                "GET /beta/jobs",
                "HEAD /api/v1/shared",
                "HEAD /beta/shared",
                "POST /jobs"
            ]
        );
    }

    #[test]
    fn swagger_json_with_base_path() {
        let text =
            r#"{"swagger":"2.0","basePath":"/v2/","paths":{"/pet/{petId}":{"get":{},"x-y":1},"/store":{"post":{}}}}"#;
        assert_eq!(routes(text), ["GET /v2/pet/{petId}", "POST /v2/store"]);
    }

    #[test]
    fn errors_say_where() {
        let table = [
            (
                "{\"openapi\":",
                "routes, document: found \"EOF while parsing a value at line 1 column 11\", wanted a JSON or YAML document\nhint: check the file with the tool that wrote it",
            ),
            (
                "openapi: 3.0.0",
                "routes, document: found \"openapi\", wanted a `paths` object\nhint: an OpenAPI document without paths declares no route",
            ),
            (
                "title: x",
                "routes, document: found \"title\", wanted an `openapi` or a `swagger` key with the version\nhint: an OpenAPI 3 or Swagger 2 document, or lines like `GET /jobs/{id}`",
            ),
            (
                "openapi: 3.0.0\npaths: {/a: {$ref: other.yaml}}",
                "routes, path \"/a\": found \"other.yaml\", wanted a reference to a part of this document\nhint: bundle the document into one file; no other file is read",
            ),
            (
                "openapi: 3.0.0\npaths: {'/a/{b': {get: {}}}",
                "routes, path \"/a/{b\": found \"/a/{b\", wanted every `{` closed by a `}` in the same segment, with a name between them\nhint: write a parameter as `{name}`",
            ),
        ];
        for (text, message) in table {
            assert_eq!(Routes::parse_openapi(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn either_kind_is_told_apart() {
        let kinds = [
            ("", 0),
            ("# nothing\n", 0),
            ("# list\nGET /a:b\nPUT /b", 2),
            ("# yaml\n---\nopenapi: 3.0.0\npaths: {/a: {get: {}}}", 1),
            ("\u{feff}{\"openapi\":\"3.0.0\",\"paths\":{\"/a\":{\"get\":{}}}}", 1),
            ("\"swagger\": \"2.0\"\npaths: {/a: {get: {}}}", 1),
            ("info:\n  title: t\nopenapi: 3.0.0\npaths: {/a: {get: {}}}", 1),
        ];
        for (text, count) in kinds {
            assert_eq!(Routes::parse(text).unwrap().len(), count, "{text}");
        }
    }
}
