//! The example `gateway`: an API over carts, which ask another service and may reach nothing else.

use std::path::Path;
use std::time::Duration;

use exuvia_manifest::Manifest;
use exuvia_node::App;

use crate::guests::boot_options;
use crate::http::Client;

/// The manifest of the example, but at any free port, and with the other service at `prices`, of which `granted` is.
fn example(prices: &str, granted: &str) -> Manifest {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/gateway");
    let mut text = std::fs::read_to_string(folder.join("exuvia.toml")).unwrap();
    for (from, to) in [
        ("address = \"127.0.0.1:8080\"", "address = \"127.0.0.1:0\""),
        ("address = \"127.0.0.1:8081\"", "address = \"127.0.0.1:0\""),
        ("http://127.0.0.1:8081/", &format!("http://{prices}/")),
        (
            "connect = [\"127.0.0.1:8081\"]",
            &format!("connect = [\"{granted}\"]"),
        ),
    ] {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text = text.replace(from, to);
    }
    Manifest::parse(&text, "exuvia.toml", &folder).unwrap_or_else(|error| panic!("{error}"))
}

/// Replaces the configuration and the grants.
fn edit(app: &App, before: &Manifest, after: &Manifest) {
    app.node().set_limits(before, after);
    app.node().set_app_config(after.config.clone());
}

#[test]
fn carts_have_prices_of_a_service_that_is_granted() {
    let nowhere = example("127.0.0.1:1", "127.0.0.1:1");
    let options = boot_options(&nowhere);
    let app = App::boot(nowhere.clone(), options).unwrap_or_else(|error| panic!("{error}"));
    let addresses = app.node().addresses();
    let prices = addresses[1].to_string();
    let manifest = example(&prices, &prices);
    edit(&app, &nowhere, &manifest);
    let mut client = Client::new(addresses[0]);
    let apples = r#"{"thing": "apple", "count": 2}"#;
    let added = client.ask_with_json("POST", "/carts/anna/items", apples);
    assert_eq!(added.status, 201, "{}", added.text());
    assert!(added.head.contains("location: /carts/anna/items/apple\r\n"));
    assert_eq!(added.text(), r#"{"thing":"apple","count":2,"cents":40}"#);
    let moon = client.ask_with_json("POST", "/carts/anna/items", r#"{"thing": "moon"}"#);
    assert_eq!(moon.status, 422, "{}", moon.text());
    let total = |client: &mut Client, cart: &str| {
        let contents = client.ask("GET", &format!("/carts/{cart}")).text();
        let (_, total) = contents.split_once("total_cents\":").expect("a total");
        total.trim_end_matches('}').to_owned()
    };
    assert_eq!(total(&mut client, "anna"), "80");
    assert_eq!(total(&mut client, "ben"), "0", "another cart");
    // What the attributes of the handlers make of requests.
    let put = client.ask("PUT", "/carts/anna");
    assert_eq!(put.status, 405);
    assert!(
        put.head.contains("allow: delete, get, head\r\n"),
        "{}",
        put.head
    );
    for (body, status, why) in [
        ("{", 400, "the body is not JSON: EOF"),
        (r#"{"count": 1}"#, 422, "the body: missing field `thing`"),
    ] {
        let refused = client.ask_with_json("POST", "/carts/anna/items", body);
        assert_eq!(refused.status, status, "{body}");
        assert!(refused.text().contains(why), "{}", refused.text());
    }
    let untyped = client.ask_with("POST", "/carts/anna/items", apples);
    assert_eq!(untyped.status, 415, "{}", untyped.text());
    assert_eq!(client.ask("HEAD", "/carts/anna").status, 200);
    for (method, path, status) in [
        ("GET", "/carts", 404),
        ("GET", "/carts/anna/owner", 404),
        ("GET", "/carts/anna/items/apple", 405),
        ("DELETE", "/carts/anna/items/pear", 404),
        ("DELETE", "/carts/anna/items/apple", 204),
    ] {
        assert_eq!(client.ask(method, path).status, status, "{method} {path}");
    }
    assert_eq!(total(&mut client, "anna"), "0");
    // The same service, but a new cart may not reach it.
    edit(&app, &manifest, &example(&prices, "127.0.0.1:1"));
    let denied = client.ask_with_json("POST", "/carts/carla/items", apples);
    assert_eq!(denied.status, 502, "{}", denied.text());
    assert!(!denied.text().contains("127.0.0.1"), "{}", denied.text());
    app.stop(Duration::from_secs(20));
}
