//! A page that counts. `exuvia dev` builds and serves it; change something here while it runs and load the page
//! again: it has the new code, and the count that it had.

use exuvia::http::{Request, Responder, Response};
use exuvia::prelude::*;

/// What a process remembers: there is one for each name in the path. New code takes it over by the fields' names:
/// give a new field `#[serde(default)]`, and raise `schema` below.
#[derive(Serialize, Deserialize, Layout)]
struct Counter {
    count: u64,
}

#[exuvia::actor(schema = 1, layout)]
impl Actor for Counter {
    type Args = String;

    fn init(_key: String, _: &mut Context) -> Result<Self, String> {
        Ok(Counter { count: 0 })
    }

    fn handle_http(
        &mut self,
        request: Request,
        _: Responder,
        _: &mut Context,
    ) -> Option<Response> {
        Some(self.answer(&request).unwrap_or_else(|error| error))
    }
}

impl Counter {
    /// An error is a response too: `?` returns it.
    fn answer(&mut self, request: &Request) -> Result<Response, Response> {
        let name: String = request.param("name")?;
        match request.method.as_str() {
            "GET" | "HEAD" => Ok(self.page(&name)),
            "POST" => {
                self.count += 1;
                exuvia::info!("{name}: {}", self.count);
                // The browser gets the page again; loading it once more does not count.
                Ok(Response::redirect(&request.path))
            }
            _ => Err(Response::new(405).header("allow", "GET, HEAD, POST")),
        }
    }

    fn page(&self, name: &str) -> Response {
        let (name, count) = (escaped(name), self.count);
        Response::html(format!(
            r#"<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>{name}: {count}</title>
<style>
  body {{ font: 1.5rem system-ui; display: grid; place-items: center; min-height: 90vh }}
  output {{ font-size: 6rem; display: block; text-align: center }}
  button {{ font: inherit; padding: .5rem 1.5rem }}
</style>
<form method="post">
  <h1>{name}</h1>
  <output>{count}</output>
  <button autofocus>count on</button>
</form>
</html>
"#
        ))
    }
}

/// What comes from a client must not become part of the page's code.
fn escaped(text: &str) -> String {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    text.replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use exuvia::http::{Request, Response};
    use exuvia::testing::{Process, deliver_http, response_to};

    use super::Counter;

    fn ask(process: &mut Process<Counter>, request: &Request) -> Response {
        let asked = deliver_http(request);
        process.run();
        response_to(asked).expect("a response")
    }

    #[test]
    fn it_counts() {
        let mut process = Process::<Counter>::start(&"counter:one".to_owned());
        let path = "/counter/one";
        let counted = ask(&mut process, &Request::new("POST", path).with_param("name", "<one>"));
        assert_eq!(counted, Response::redirect(path));
        let page = ask(&mut process, &Request::new("GET", path).with_param("name", "<one>"));
        let text = String::from_utf8(page.body).expect("text");
        assert!(text.contains("<output>1</output>"), "{text}");
        assert!(text.contains("&lt;one&gt;"), "{text}");
    }
}
