//! OpenAI's own client on two language model servers, of which the model's name in the JSON body chooses one.

use meshctl::demo::servers;
use serde_json::json;

use crate::kit::{FreePorts, address, client, kit, line, script};
use crate::mesh::{Mesh, OPENAI, caller, object, route, service, workload};
use crate::seen;

#[test]
fn openai_works_through_two_sidecars() -> anyhow::Result<()> {
    let kit = kit()?;
    let mut free = FreePorts;
    let (proxy, chat) = (free.next()?, free.next()?);
    let to = |size: &str| {
        json!({
            "name": size,
            "matches": [{"model": size, "operation": ["generate"]}],
            "split": {"backends": [{"name": size, "service": size}]},
        })
    };
    let ports = json!([{"name": "http", "port": 80, "appProtocol": OPENAI}]);
    let mut documents = vec![
        object("Service", "llm", &json!({"ports": ports})),
        route("llm", &json!([to("large"), to("small")])),
        caller(proxy, &[(chat, "llm")]),
    ];
    for size in ["large", "small"] {
        let port = free.next()?;
        let server = servers::chat(&kit, port, size);
        let open = [("http", port)];
        documents.extend([
            workload(
                size,
                OPENAI,
                &server.process,
                Some(&server.ready),
                &open,
                &mut free,
            )?,
            service(size, OPENAI, &["http"]),
        ]);
    }
    let mesh = Mesh::up(documents)?;
    let url = format!("http://{}/v1", address(chat));
    let proxy = format!("http://{}", address(proxy));

    // A stream ends with what it cost.
    for (model, requests) in [("large", 2), ("small", 3)] {
        let args = [
            &url,
            "--model",
            model,
            "--requests",
            &requests.to_string(),
            "--tokens",
            "7",
        ];
        let stream = client(&kit, "openai_chat.py", &args)?;
        assert_eq!(stream["answers"], json!({model: requests}), "{stream}");
        let heard = (
            &stream["chunks"],
            &stream["completion_tokens"],
            &stream["without_usage"],
        );
        let tokens = json!(7 * requests);
        assert_eq!(heard, (&tokens, &tokens, &json!(0)), "{stream}");
    }

    // A whole answer, to a client that takes the sidecar for its HTTP proxy.
    let mut whole = script(&kit, "openai_chat.py");
    whole.args([
        "http://llm.ml/v1",
        "--model",
        "small",
        "--no-stream",
        "--tokens",
        "7",
    ]);
    let whole = line(whole.env("HTTP_PROXY", &proxy))?;
    assert_eq!(whole["answers"], json!({"small": 1}), "{whole}");
    assert_eq!(whole["completion_tokens"], 7, "{whole}");

    // Nobody serves this: the mesh's own words, as the client shows an OpenAI server's.
    let nobody = client(&kit, "openai_chat.py", &[&url, "--model", "huge"])?;
    let error = &nobody["errors"][0];
    assert_eq!(
        (&error["status"], &error["mesh-error"]),
        (&json!("404"), &json!("no-rule")),
        "{nobody}"
    );
    let message = error["message"].as_str().unwrap_or_default();
    assert!(message.contains("no-rule (ModelRoute ml/llm)"), "{nobody}");

    let sent = [
        ("ml/llm large/large large@ generate 200", 2),
        ("ml/llm small/small small@ generate 200", 4),
        ("ml/llm / huge@ generate 404", 1),
    ];
    seen::by_sidecar(&mesh, None, &sent)?;
    seen::by_routes(&mesh, &sent)?;
    seen::by_sidecar(&mesh, Some("large"), &[("ml/large / large@ generate 200", 2)])?;
    seen::by_sidecar(&mesh, Some("small"), &[("ml/small / small@ generate 200", 4)])
}
