//! A cart with an HTTP API: one process for each, which the node starts with the first request and ends when the cart
//! has not been used for a while. What a thing costs, another service says.

use std::collections::BTreeMap;
use std::time::Duration;

use exuvia::http::{Fetch, FetchError, Json, Request, Response};
use exuvia::prelude::*;

/// The maximum number of different things in a cart.
const MOST_THINGS: usize = 100;
/// The maximum number of each.
const MOST_OF_EACH: u32 = 1_000;
/// The maximum number of bytes of a thing's name.
const LONGEST_NAME: usize = 40;

#[derive(Serialize, Deserialize)]
struct Cart {
    id: String,
    things: BTreeMap<String, Item>,
}

/// How many of a thing, and what each cost when it was last put into the cart.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Item {
    count: u32,
    cents: u64,
}

/// What clients see of an item.
#[derive(Serialize)]
struct Line<'a> {
    thing: &'a str,
    #[serde(flatten)]
    item: &'a Item,
}

/// What clients see of a cart.
#[derive(Serialize)]
struct Contents<'a> {
    id: &'a str,
    items: Vec<Line<'a>>,
    total_cents: u64,
}

/// What a client puts into a cart.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewItem {
    thing: String,
    #[serde(default = "one")]
    count: u32,
}

fn one() -> u32 {
    1
}

/// What the other service says.
#[derive(Deserialize)]
struct Price {
    cents: u64,
}

/// A response that says what is wrong.
fn problem(status: u16, why: impl Into<String>) -> Response {
    #[derive(Serialize)]
    struct Problem {
        error: String,
    }
    Response::json(&Problem { error: why.into() }).with_status(status)
}

#[exuvia::actor(schema = 1, http)]
impl Actor for Cart {
    type Args = String;

    fn init(key: String, _: &mut Context) -> Result<Self, String> {
        let id = key.strip_prefix("cart:").unwrap_or(&key);
        Ok(Cart {
            id: id.to_owned(),
            things: BTreeMap::new(),
        })
    }
}

/// What clients may ask for. All other paths and methods get 404 and 405.
#[exuvia::http]
impl Cart {
    #[get("/carts/{id}")]
    fn contents(&self) -> Json<Contents<'_>> {
        let items = self.things.iter();
        let items = items.map(|(thing, item)| Line { thing, item });
        Json(Contents {
            id: &self.id,
            items: items.collect(),
            total_cents: (self.things.values())
                .map(|item| item.cents.saturating_mul(item.count.into()))
                .fold(0, u64::saturating_add),
        })
    }

    #[delete("/carts/{id}")]
    fn clear(&mut self) {
        self.things.clear();
    }

    /// While it waits for the other service, requests for the same cart wait as messages, and those for other carts do not.
    #[post("/carts/{id}/items")]
    async fn add(
        &mut self,
        Json(new): Json<NewItem>,
        request: &Request,
    ) -> Result<Response, Response> {
        let NewItem { thing, count } = new;
        // It becomes a part of a path.
        let is_name = |name: &str| {
            let plain = |byte: u8| byte.is_ascii_lowercase() || byte == b'-';
            !name.is_empty() && name.len() <= LONGEST_NAME && name.bytes().all(plain)
        };
        if !is_name(&thing) {
            return Err(problem(422, "`thing` has 1 to 40 of a-z and -"));
        }
        let before = self.things.get(&thing).map_or(0, |item| item.count);
        let most = MOST_OF_EACH.saturating_sub(before);
        if count == 0 || count > most {
            return Err(problem(422, format!("`count` is from 1 to {most}")));
        }
        if before == 0 && self.things.len() >= MOST_THINGS {
            return Err(problem(409, format!("the cart has {MOST_THINGS} things")));
        }
        let Price { cents } = price(&thing).await?;
        let item = Item {
            count: before + count,
            cents,
        };
        let line = Line {
            thing: &thing,
            item: &item,
        };
        // Not made of the id: that is decoded, and may contain what no path does.
        let place = format!("{}/{thing}", request.path.trim_end_matches('/'));
        let status = if before == 0 { 201 } else { 200 };
        let response = Response::json(&line)
            .with_status(status)
            .header("location", &place);
        self.things.insert(thing, item);
        Ok(response)
    }

    #[delete("/carts/{id}/items/{thing}")]
    fn remove(&mut self, thing: String) -> Result<(), Response> {
        match self.things.remove(&thing) {
            Some(_) => Ok(()),
            None => Err(problem(404, format!("the cart has no {thing}"))),
        }
    }
}

/// Asks the other service. The error is what this one's client gets.
async fn price(thing: &str) -> Result<Price, Response> {
    let unknown = |error: Error| {
        exuvia::error!("`config.gateway`: {error}");
        Response::new(500)
    };
    let service: Option<String> = exuvia::config("gateway.prices").map_err(unknown)?;
    let patience = exuvia::config("gateway.patience_ms").map_err(unknown)?;
    let url = format!("{}/{thing}", service.unwrap_or_default());
    let fetch = Fetch::get(&url).within(Duration::from_millis(patience.unwrap_or(2_000)));
    let fetched = match fetch.send() {
        Ok(fetching) => fetching.await,
        Err(error) => Err(error),
    };
    let failed = |why: &dyn std::fmt::Display| {
        // The client cannot do anything about it, and is not told addresses of ours.
        exuvia::warn!("{url}: {why}");
        problem(502, "what it costs cannot be found out")
    };
    match fetched {
        Ok(response) if response.status == 200 => response.json().map_err(|error| failed(&error)),
        Ok(response) if response.status == 404 => {
            Err(problem(422, format!("there is no {thing} to be bought")))
        }
        Ok(response) => Err(failed(&format!("status {}", response.status))),
        Err(FetchError::Timeout) => Err(problem(504, "what it costs is not known in time")),
        Err(error) => Err(failed(&error)),
    }
}

#[cfg(test)]
mod tests {
    use exuvia::RunResult;
    use exuvia::http::{Request, Response};
    use exuvia::testing::{
        self, Effect, Process, deliver_fetched, deliver_http, effects, response_to, set_config,
    };

    use super::{Cart, MOST_THINGS};

    /// A cart, and how it is asked.
    struct Asked(Process<Cart>);

    impl Asked {
        fn new() -> Asked {
            testing::reset();
            set_config("gateway.prices", &"http://prices.example/of");
            Asked(Process::start(&"cart:anna"))
        }

        fn ask(&mut self, method: &str, path: &str) -> Response {
            self.answer(&Request::new(method, path), &|| panic!("nobody is asked"))
        }

        fn add(
            &mut self,
            body: &str,
            price: &dyn Fn() -> Result<Response, &'static str>,
        ) -> Response {
            self.answer(&post("/carts/anna/items", body), price)
        }

        /// Makes a request; `price` is what the other service says.
        fn answer(
            &mut self,
            request: &Request,
            price: &dyn Fn() -> Result<Response, &'static str>,
        ) -> Response {
            let reference = deliver_http(request);
            if self.0.run() == RunResult::Waiting {
                let asked = effects().into_iter().find_map(|effect| match effect {
                    Effect::Request {
                        to,
                        payload,
                        reference,
                        ..
                    } => {
                        assert_eq!(to, testing::HTTP_CLIENT);
                        let payload = String::from_utf8_lossy(&payload).into_owned();
                        assert!(payload.contains("http://prices.example/of/"), "{payload}");
                        Some(reference)
                    }
                    _ => None,
                });
                let price = price();
                deliver_fetched(
                    asked.expect("a request"),
                    price.as_ref().map_err(|why| *why),
                );
                self.0.run();
            }
            response_to(reference).expect("a response")
        }
    }

    fn post(path: &str, body: &str) -> Request {
        let request = Request::new("POST", path).with_header("content-type", "application/json");
        request.with_body(body)
    }

    fn costs(cents: u64) -> impl Fn() -> Result<Response, &'static str> {
        move || Ok(Response::text(format!("{{\"cents\":{cents}}}")))
    }

    fn text(response: &Response) -> String {
        String::from_utf8_lossy(&response.body).into_owned()
    }

    #[test]
    fn things_are_put_in_and_taken_out() {
        let mut cart = Asked::new();
        let added = cart.add(r#"{"thing": "apple", "count": 2}"#, &costs(40));
        assert_eq!(
            (added.status, text(&added).as_str()),
            (201, r#"{"thing":"apple","count":2,"cents":40}"#)
        );
        assert!(
            added
                .headers
                .contains(&("location".into(), "/carts/anna/items/apple".into()))
        );
        assert_eq!(cart.add(r#"{"thing": "nut"}"#, &costs(5)).status, 201);
        assert_eq!(cart.add(r#"{"thing": "nut"}"#, &costs(6)).status, 200);
        // What the client has encoded stays so.
        let strange = post("/carts/a%0Ab/items", r#"{"thing": "nut"}"#);
        let added = cart.answer(&strange, &costs(6));
        assert!(
            added
                .headers
                .contains(&("location".into(), "/carts/a%0Ab/items/nut".into()))
        );
        let contents = cart.ask("GET", "/carts/anna");
        assert_eq!(contents.status, 200);
        assert_eq!(
            text(&contents),
            r#"{"id":"anna","items":[{"thing":"apple","count":2,"cents":40},{"thing":"nut","count":3,"cents":6}],"total_cents":98}"#
        );
        assert_eq!(cart.ask("DELETE", "/carts/anna/items/apple").status, 204);
        assert_eq!(cart.ask("DELETE", "/carts/anna/items/apple").status, 404);
        assert_eq!(cart.ask("DELETE", "/carts/anna").status, 204);
        assert!(text(&cart.ask("GET", "/carts/anna")).contains(r#""items":[]"#));
    }

    #[test]
    fn what_cannot_be_put_in_has_a_status_that_says_why() {
        let mut cart = Asked::new();
        for (body, status) in [
            ("no JSON", 400),
            (r#"{"thing": "apple", "colour": "red"}"#, 422),
            (r#"{"count": 1}"#, 422),
            (r#"{"thing": "../secret"}"#, 422),
            (r#"{"thing": ""}"#, 422),
            (r#"{"thing": "apple", "count": 0}"#, 422),
            (r#"{"thing": "apple", "count": 1001}"#, 422),
        ] {
            let refused = cart.add(body, &|| panic!("nobody is asked"));
            assert_eq!(refused.status, status, "{body}: {}", text(&refused));
        }
        let things = ('a'..='z').flat_map(|one| ('a'..='z').map(move |two| format!("{one}{two}")));
        for thing in things.take(MOST_THINGS) {
            let body = format!("{{\"thing\": \"{thing}\"}}");
            assert_eq!(cart.add(&body, &costs(1)).status, 201);
        }
        let full = cart.add(r#"{"thing": "zz"}"#, &|| panic!("nobody is asked"));
        assert_eq!(full.status, 409);
    }

    #[test]
    fn a_cart_does_not_change_when_the_other_service_fails() {
        let mut cart = Asked::new();
        let apple = r#"{"thing": "apple"}"#;
        let status = |status| move || Ok(Response::new(status));
        let fails = |why: &'static str| move || Err(why);
        for (response, expected) in [
            (cart.add(apple, &status(404)), 422),
            (cart.add(apple, &status(500)), 502),
            (cart.add(apple, &|| Ok(Response::text("forty"))), 502),
            (cart.add(apple, &fails("denied: not granted")), 502),
            (cart.add(apple, &fails("timeout: none in time")), 504),
        ] {
            assert_eq!(response.status, expected, "{}", text(&response));
        }
        assert!(text(&cart.ask("GET", "/carts/anna")).contains(r#""items":[]"#));
    }
}
