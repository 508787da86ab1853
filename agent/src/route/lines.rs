//! Routes declared as lines `METHOD /path/{param}`. OpenAPI documents are read in `openapi`.

use super::{RouteError, Routes, method};

impl Routes {
    /// Reads one route a line; blank lines are skipped and `#` begins a comment.
    ///
    /// # Errors
    ///
    /// The first line that is not a registered method in upper case and a path, with its number.
    ///
    /// # Examples
    ///
    /// ```
    /// use sockmeter::route::{Routes, Target};
    /// let routes = Routes::parse_lines("GET /jobs/{id}  # one job")?;
    /// assert_eq!(routes.template("GET", Target::whole(b"/jobs/next?x=1"), Some(200)).as_str(), "/jobs/{id}");
    /// # Ok::<(), sockmeter::route::RouteError>(())
    /// ```
    pub fn parse_lines(text: &str) -> Result<Self, RouteError> {
        let mut routes = Self::default();
        for (index, line) in text.trim_start_matches('\u{feff}').lines().enumerate() {
            let code = line.split('#').next().unwrap_or_default().trim();
            if !code.is_empty() {
                routes.declare_line(code).map_err(|error| error.at(format!("line {}", index + 1)))?;
            }
        }
        Ok(routes)
    }

    fn declare_line(&mut self, line: &str) -> Result<(), RouteError> {
        let mut words = line.split_whitespace();
        let (Some(token), Some(path), None) = (words.next(), words.next(), words.next()) else {
            return Err(RouteError::new(line, "a method and a path", "write `GET /jobs/{id}`"));
        };
        let Some(method) = method::registered(token.as_bytes()) else {
            let upper = token.to_ascii_uppercase();
            let hint = if method::registered(upper.as_bytes()).is_some() {
                format!("methods are case-sensitive, write `{upper}`")
            } else {
                "requests with any other method are labelled OTHER and take the template of the path".to_owned()
            };
            return Err(RouteError::new(token, "a registered HTTP method in upper case", hint));
        };
        self.declare(method, path)
    }
}

#[cfg(test)]
mod tests {
    #![expect(clippy::unwrap_used, reason = "tests")]

    use crate::route::Routes;

    #[test]
    fn errors_name_the_line_what_is_there_and_what_is_wanted() {
        let table = [
            (
                "GET /a\n\nget /b",
                "routes, line 3: found \"get\", wanted a registered HTTP method in upper case\n\
                 hint: methods are case-sensitive, write `GET`",
            ),
            ("# only\n/a", "routes, line 2: found \"/a\", wanted a method and a path\nhint: write `GET /jobs/{id}`"),
            ("GET jobs", "routes, line 1: found \"jobs\", wanted a path that begins with `/`\nhint: write `/jobs`"),
            (
                "GET /jobs?x=1",
                "routes, line 1: found \"/jobs?x=1\", wanted a path without query\n\
                 hint: leave out everything from the `?` on; queries never matter here",
            ),
            (
                "GET /jobs/{id:[0-9]+}",
                "routes, line 1: found \"/jobs/{id:[0-9]+}\", wanted a parameter of letters, digits, `_`, `-` and `.`\n\
                 hint: leave the pattern out: `{id}` instead of `{id:[0-9]+}`",
            ),
            (
                "GET /a/{x...}/b",
                "routes, line 1: found \"/a/{x...}/b\", wanted `{name...}` only as the last segment\n\
                 hint: write `{name}` for one segment",
            ),
            (
                "GET /a/{x}\nGET /a/{y}",
                "routes, line 2: found \"/a/{y}\", wanted paths that can be told apart; GET \"/a/{x}\" is declared already\n\
                 hint: remove one of the two",
            ),
            (
                "FETCH /a",
                "routes, line 1: found \"FETCH\", wanted a registered HTTP method in upper case\n\
                 hint: requests with any other method are labelled OTHER and take the template of the path",
            ),
        ];
        for (text, message) in table {
            assert_eq!(Routes::parse_lines(text).unwrap_err().to_string(), message);
        }
    }

    #[test]
    fn the_same_line_twice_is_one_route() {
        assert_eq!(Routes::parse_lines("GET /a/{x}\r\nGET /a/{x}\r\n").unwrap().len(), 1);
    }
}
