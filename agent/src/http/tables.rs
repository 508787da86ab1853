//! Which table a request asks for, and what of it. What is in it is the source's.

/// The tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Table {
    /// The live sockets, each by itself.
    Sockets,
    /// Exchanges by endpoint.
    Endpoints,
    /// Bytes by job.
    Jobs,
    /// Bytes by interface.
    Interfaces,
}

/// What of a table is wanted.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TableWanted {
    /// Which.
    pub table: Table,
    /// Column to sort by.
    pub sort: Option<String>,
    /// Rows at most.
    pub limit: Option<usize>,
    /// Only rows with this process.
    pub process: Option<String>,
    /// Only rows with this job.
    pub job: Option<String>,
}

impl Table {
    /// The table at a path.
    pub(super) fn of(path: &str) -> Option<Self> {
        Some(match path.strip_prefix("/api/v1/")? {
            "sockets" => Self::Sockets,
            "endpoints" => Self::Endpoints,
            "jobs" => Self::Jobs,
            "interfaces" => Self::Interfaces,
            _ => return None,
        })
    }

    /// With what the query says; what is wrong with that.
    pub(super) fn wanted(self, query: Option<&str>) -> Result<TableWanted, String> {
        let mut wanted = TableWanted { table: self, sort: None, limit: None, process: None, job: None };
        for (key, value) in form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
            match key.as_ref() {
                "sort" => wanted.sort = Some(value.into_owned()),
                "process" => wanted.process = Some(value.into_owned()),
                "job" => wanted.job = Some(value.into_owned()),
                "limit" => {
                    let limit = value.parse().map_err(|_| format!("limit is {value:?}, wanted a number of rows"))?;
                    wanted.limit = Some(limit);
                }
                _ => return Err(format!("{key:?} is not known here, wanted sort, limit, process or job")),
            }
        }
        Ok(wanted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_is_taken_apart() {
        let wanted =
            Table::of("/api/v1/jobs").map(|table| table.wanted(Some("sort=pid&limit=3&job=a%22b&process=x+y")));
        let expected = TableWanted {
            table: Table::Jobs,
            sort: Some("pid".to_owned()),
            limit: Some(3),
            process: Some("x y".to_owned()),
            job: Some("a\"b".to_owned()),
        };
        assert_eq!(wanted, Some(Ok(expected)));
        assert_eq!(Table::of("/api/v1/job"), None);
        let wrong = |query| Table::Jobs.wanted(Some(query)).err();
        assert_eq!(wrong("limit=-1").as_deref(), Some("limit is \"-1\", wanted a number of rows"));
        assert_eq!(
            wrong("sorted=x").as_deref(),
            Some("\"sorted\" is not known here, wanted sort, limit, process or job")
        );
    }
}
