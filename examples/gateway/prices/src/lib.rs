//! What things cost, as a service that knows no carts: a process for each request, which reads `[config.prices]`.

use std::collections::BTreeMap;

use exuvia::http::{Json, Response};
use exuvia::prelude::*;

#[derive(Serialize, Deserialize)]
struct Prices;

#[derive(Serialize)]
struct Price {
    cents: u64,
}

#[exuvia::actor(schema = 1, http)]
impl Actor for Prices {
    fn init(_: (), _: &mut Context) -> Result<Self, String> {
        Ok(Prices)
    }
}

#[exuvia::http]
impl Prices {
    /// What a thing costs, if it is sold.
    #[get("/prices/{thing}")]
    fn price(thing: String) -> Result<Option<Json<Price>>, Response> {
        let prices = exuvia::config::<BTreeMap<String, u64>>("prices");
        let prices = prices.map_err(|error| {
            exuvia::error!("`config.prices`: {error}");
            Response::new(500)
        })?;
        let cents = prices.unwrap_or_default().get(&thing).copied();
        Ok(cents.map(|cents| Json(Price { cents })))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use exuvia::http::Request;
    use exuvia::testing::{Process, deliver_http, response_to, set_config};

    use super::Prices;

    #[test]
    fn a_thing_has_a_price_or_is_not_sold() {
        set_config("prices", &BTreeMap::from([("apple", 40)]));
        for (thing, status, body) in [
            ("apple", 200, "{\"cents\":40}"),
            ("moon", 404, "404 Not Found"),
        ] {
            let path = format!("/prices/{thing}");
            let mut process = Process::<Prices>::start(&());
            let asked = deliver_http(&Request::new("GET", &path));
            process.run();
            let response = response_to(asked).expect("a response");
            assert_eq!(response.status, status, "{thing}");
            assert!(String::from_utf8_lossy(&response.body).starts_with(body));
        }
    }
}
