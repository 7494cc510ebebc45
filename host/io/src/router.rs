//! Which route a request takes: by host, path and method.

use std::collections::BTreeMap;

use percent_encoding::percent_decode_str;

use crate::settings::{Route, Target};

/// The routes of one address.
#[derive(Debug, Default)]
pub(crate) struct Router {
    /// By host; `None`: of any host.
    hosts: BTreeMap<Option<String>, matchit::Router<Vec<Candidate>>>,
}

/// A route of some path.
#[derive(Clone, Debug)]
struct Candidate {
    methods: Vec<String>,
    /// Its index in the settings.
    route: usize,
}

/// Where a request goes.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// To the route with this index, with these parameters of the path.
    Route(usize, Vec<(String, String)>),
    /// Nowhere, but there are routes for these methods.
    OtherMethods(Vec<String>),
    /// A parameter of the path is not UTF-8.
    BadPath,
    /// Nowhere.
    Nothing,
}

impl Router {
    /// Makes the router of some routes.
    ///
    /// # Errors
    ///
    /// The path of the first route that is in the way of another, or is no pattern, and why.
    pub(crate) fn new(routes: &[Route]) -> Result<Router, (String, String)> {
        let mut paths: BTreeMap<(Option<String>, &str), Vec<Candidate>> = BTreeMap::new();
        for (index, route) in routes.iter().enumerate() {
            let host = route.host.as_ref().map(|host| host.to_ascii_lowercase());
            let candidates = paths.entry((host, &route.path)).or_default();
            let twice = candidates.iter().any(|known| {
                let both = route
                    .methods
                    .iter()
                    .any(|method| known.methods.contains(method));
                both || (known.methods.is_empty() && route.methods.is_empty())
            });
            if twice {
                let reason = "another route has the same path and method".to_owned();
                return Err((route.path.clone(), reason));
            }
            candidates.push(Candidate {
                methods: route.methods.clone(),
                route: index,
            });
        }
        // What is below a folder is also the folder itself, unless another route has its path.
        for (index, route) in routes.iter().enumerate() {
            let Target::Folder(_) = route.target else {
                continue;
            };
            let Some((folder, _)) = route.path.split_once("{*") else {
                continue;
            };
            let host = route.host.as_ref().map(|host| host.to_ascii_lowercase());
            let of_folder = paths.entry((host, folder));
            of_folder.or_insert_with(|| {
                vec![Candidate {
                    methods: route.methods.clone(),
                    route: index,
                }]
            });
        }
        let mut router = Router::default();
        for ((host, path), candidates) in paths {
            let of_host = router.hosts.entry(host).or_default();
            let inserted = of_host.insert(path, candidates);
            inserted.map_err(|error| (path.to_owned(), error.to_string()))?;
        }
        Ok(router)
    }

    /// Returns where a request goes. `host` is without a port; `path` is as it was sent.
    pub(crate) fn find(&self, host: Option<&str>, path: &str, method: &str) -> Found {
        let host = host.map(str::to_ascii_lowercase);
        let mut allowed = Vec::new();
        for host in [host, None] {
            let Some(matched) = self
                .hosts
                .get(&host)
                .and_then(|of_host| of_host.at(path).ok())
            else {
                continue;
            };
            let takes = |candidate: &&Candidate, method: &str| {
                candidate.methods.iter().any(|known| known == method)
            };
            let exact = matched
                .value
                .iter()
                .find(|candidate| takes(candidate, method));
            let found = exact
                .or_else(|| {
                    let head = method == "HEAD";
                    let get = |candidate: &&Candidate| head && takes(candidate, "GET");
                    matched.value.iter().find(get)
                })
                .or_else(|| matched.value.iter().find(|any| any.methods.is_empty()));
            if let Some(candidate) = found {
                let decoded = matched.params.iter().map(|(name, value)| {
                    let value = percent_decode_str(value).decode_utf8().ok()?;
                    Some((name.to_owned(), value.into_owned()))
                });
                return match decoded.collect() {
                    Some(parameters) => Found::Route(candidate.route, parameters),
                    None => Found::BadPath,
                };
            }
            allowed.extend(matched.value.iter().flat_map(|known| known.methods.clone()));
        }
        if allowed.is_empty() {
            return Found::Nothing;
        }
        if allowed.iter().any(|method| method == "GET") {
            allowed.push("HEAD".to_owned());
        }
        allowed.sort_unstable();
        allowed.dedup();
        Found::OtherMethods(allowed)
    }
}

#[cfg(test)]
mod tests {
    use hyper::HeaderMap;

    use super::*;
    use crate::settings::Target;

    fn route(host: Option<&str>, path: &str, methods: &[&str]) -> Route {
        Route {
            host: host.map(str::to_owned),
            path: path.to_owned(),
            methods: methods.iter().map(|method| (*method).to_owned()).collect(),
            body: None,
            streams: false,
            target: Target::File("a".into()),
            response_headers: HeaderMap::new(),
        }
    }

    fn goes(router: &Router, host: &str, path: &str, method: &str) -> Option<usize> {
        match router.find(Some(host), path, method) {
            Found::Route(index, _) => Some(index),
            _ => None,
        }
    }

    #[test]
    fn the_most_exact_route_wins() {
        let router = Router::new(&[
            route(None, "/room/{id}", &["GET"]),
            route(None, "/room/{id}", &["PUT", "DELETE"]),
            route(None, "/room/lobby", &[]),
            route(Some("Admin.example"), "/room/{id}", &[]),
            route(None, "/files/{*path}", &["GET"]),
            route(None, "/any", &[]),
            route(None, "/any", &["POST"]),
        ])
        .unwrap();
        for (host, path, method, index) in [
            ("a", "/room/7", "GET", Some(0)),
            ("a", "/room/7", "HEAD", Some(0)),
            ("a", "/room/7", "PUT", Some(1)),
            ("a", "/room/lobby", "PUT", Some(2)),
            ("ADMIN.example", "/room/7", "PUT", Some(3)),
            ("admin.example", "/files/a/b", "GET", Some(4)),
            ("a", "/any", "POST", Some(6)),
            ("a", "/any", "GET", Some(5)),
            ("a", "/room/7/x", "GET", None),
            ("a", "/room/7", "POST", None),
        ] {
            assert_eq!(
                goes(&router, host, path, method),
                index,
                "{host} {path} {method}"
            );
        }
        let methods = ["DELETE", "GET", "HEAD", "PUT"].map(str::to_owned).to_vec();
        assert_eq!(
            router.find(None, "/room/7", "POST"),
            Found::OtherMethods(methods)
        );
        assert_eq!(router.find(None, "/", "GET"), Found::Nothing);
    }

    #[test]
    fn parameters_are_decoded() {
        let router = Router::new(&[route(None, "/{a}/{*rest}", &[])]).unwrap();
        let parameters = vec![
            ("a".to_owned(), "ü b".to_owned()),
            ("rest".to_owned(), "x/y/z".to_owned()),
        ];
        let found = router.find(None, "/%C3%BC%20b/x/y%2Fz", "GET");
        assert_eq!(found, Found::Route(0, parameters));
        assert_eq!(router.find(None, "/%ff/x", "GET"), Found::BadPath);
    }

    #[test]
    fn routes_in_the_way_of_others_are_refused() {
        let same = [
            route(None, "/a", &["GET", "PUT"]),
            route(None, "/a", &["PUT"]),
        ];
        let (path, reason) = Router::new(&same).unwrap_err();
        assert_eq!((path.as_str(), reason.contains("same path")), ("/a", true));
        let both = [route(None, "/a/{x}", &[]), route(None, "/a/{y}", &[])];
        assert!(Router::new(&both).is_err());
    }
}
