"""Calls every operation that an API's OpenAPI document names, and holds the answers against it.

openapi.py API TOKEN CLIENT: the API wants TOKEN; CLIENT has one channel. Prints a line for each operation.
"""

import json
import re
import sys
import urllib.error
import urllib.request

from jsonschema import Draft202012Validator

API, TOKEN, CLIENT = sys.argv[1:]
# These need a state of the host or of the hub that other tests bring about.
ELSEWHERE = {503, 507}


def ask(method, path, body=None, headers=None, token=TOKEN):
    data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | (headers or {})
    if token:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(API + path, data, headers, method=method.upper())
    try:
        answer = urllib.request.urlopen(request, timeout=10)
    except urllib.error.HTTPError as error:
        answer = error
    media = answer.headers.get_content_type()
    # A stream of events has no end.
    said = answer.readline().decode() if media == "text/event-stream" else json.load(answer)
    return answer.status, media, said


status, _, document = ask("get", "/v1/openapi.json")
assert status == 200 and document["openapi"].startswith("3.1"), document["openapi"]
SCHEMAS = document["components"]["schemas"]


def validator(schema):
    # References of the document are resolved where they stand.
    text = json.dumps(schema | {"components": document["components"]})
    Draft202012Validator.check_schema(json.loads(text))
    return Draft202012Validator(json.loads(text))


for name in SCHEMAS:
    validator({"$ref": f"#/components/schemas/{name}"})

NEW_PUSH = validator({"$ref": "#/components/schemas/NewPush"})
PUSHES = [
    # Body, whether it is one.
    ({"to": {"clients": [CLIENT]}, "payload": {"n": 1}}, True),
    ({"to": {"all": True}, "payload": None, "ttl_s": 5}, True),
    ({"to": {"clients": ["cert:lab/nobody", CLIENT]}, "payload": [1.5, "x"], "queue": True}, True),
    ({"to": {"clients": []}, "payload": 1}, False),
    ({"to": {"clients": [""]}, "payload": 1}, False),
    ({"to": {"clients": ["x" * 129]}, "payload": 1}, False),
    ({"to": {"clients": [CLIENT], "all": True}, "payload": 1}, False),
    ({"to": {"all": False}, "payload": 1}, False),
    ({"to": {}, "payload": 1}, False),
    ({"to": CLIENT, "payload": 1}, False),
    ({"to": {"clients": [CLIENT]}}, False),
    ({"payload": 1}, False),
    ({"to": {"clients": [CLIENT]}, "payload": 1, "ttl_s": 0}, False),
    ({"to": {"clients": [CLIENT]}, "payload": 1, "ttl_s": 10**9}, False),
    ({"to": {"clients": [CLIENT]}, "payload": 1, "ttl_s": "5"}, False),
    ({"to": {"clients": [CLIENT]}, "payload": 1, "queue": "yes"}, False),
    ({"to": {"clients": [CLIENT]}, "payload": 1, "topic": "news"}, False),
    ([], False),
]


def pushed(queue=False):
    body = {"to": {"clients": [CLIENT, "cert:lab/nobody"]}, "payload": 1, "queue": queue}
    return ask("post", "/v1/push", body)[2]["push"]


once = {"Idempotency-Key": "openapi-1"}
done, queued = pushed(), pushed(queue=True)
unknown = done[:-4] + ("0000" if not done.endswith("0000") else "1111")
# Arguments of calls for each operation: path, and what else.
CALLS = {
    ("post", "/v1/push"): [
        *[("/v1/push", body) for body, _ in PUSHES],
        ("/v1/push", b"{"),
        ("/v1/push", {"to": {"all": True}, "payload": "x" * 5000}),
        ("/v1/push", {"to": {"all": True}, "payload": 1}, {"Idempotency-Key": "k" * 129}),
        ("/v1/push", {"to": {"all": True}, "payload": 1, "queue": False}, once),
        ("/v1/push", {"to": {"all": True}, "payload": 1, "queue": False}, once),
        ("/v1/push", {"to": {"all": True}, "payload": 2, "queue": False}, once),
    ],
    ("get", "/v1/push/{push}"): [
        (f"/v1/push/{done}",),
        (f"/v1/push/{queued}?clients=true",),
        (f"/v1/push/{queued}?clients=true&after=1",),
        (f"/v1/push/{queued}?clients=perhaps",),
        (f"/v1/push/{unknown}",),
        ("/v1/push/xyz",),
    ],
    ("delete", "/v1/push/{push}"): [
        (f"/v1/push/{queued}",),
        (f"/v1/push/{done}",),
        (f"/v1/push/{unknown}",),
        ("/v1/push/xyz",),
    ],
    ("get", "/v1/clients"): [
        ("/v1/clients",),
        ("/v1/clients?limit=1",),
        ("/v1/clients?after=0&limit=1000",),
        ("/v1/clients?limit=0",),
        ("/v1/clients?limit=1001",),
        ("/v1/clients?after=x",),
    ],
    ("get", "/v1/clients/{id}"): [(f"/v1/clients/{CLIENT}",), ("/v1/clients/cert:lab/nobody",)],
    ("get", "/v1/events"): [("/v1/events",)],
    ("get", "/v1/openapi.json"): [("/v1/openapi.json",)],
    # The last one: its channel is gone then.
    ("delete", "/v1/clients/{id}"): [("/v1/clients/cert:lab/nobody",), (f"/v1/clients/{CLIENT}",)],
}
# What the document cannot say of an operation: a status that only a race brings.
RACES = {("post", "/v1/push"): {409}}

named = {(method, path) for path, item in document["paths"].items() for method in item}
assert named == set(CALLS), named ^ set(CALLS)

for (method, path), calls in CALLS.items():
    operation = document["paths"][path][method]
    answers, seen, asked = operation["responses"], set(), ""
    for call in calls:
        status, media, said = ask(method, *call)
        where = f"{method} {call}: {status} {said}"
        answer = answers.get(str(status))
        assert answer, f"{where}: not in the document"
        assert media in answer["content"], f"{where}: {media} is not in the document"
        # One line of events is a text.
        validator(answer["content"][media]["schema"]).validate(said)
        seen.add(status)
        asked += call[0]
    status, media, said = ask(method, *calls[0], token="wrong")
    assert status == 401, f"{method} {path} without a token: {status}"
    validator(answers["401"]["content"][media]["schema"]).validate(said)
    unseen = {int(status) for status in answers} - seen - {401} - ELSEWHERE - RACES.get((method, path), set())
    assert not unseen, f"{method} {path}: {unseen} in the document did not come"
    for parameter in operation["parameters"]:
        if parameter["in"] == "query":
            assert re.search(rf"[?&]{parameter['name']}=", asked), f"{method} {path}: {parameter['name']} is not tried"
    print(method, path, sorted(seen), flush=True)

for body, good in PUSHES:
    assert NEW_PUSH.is_valid(body) == good, f"{body}: the document says otherwise"
    status, _, said = ask("post", "/v1/push", body)
    assert (status == 202) == good, f"{body}: {status} {said}"

for method in ("get", "post", "put", "patch", "delete"):
    for path in document["paths"]:
        if method not in document["paths"][path]:
            status, _, said = ask(method, re.sub(r"\{.*?\}", done, path), b"" if method == "post" else None)
            assert status == 405, f"{method} {path}: {status} {said}"
status, _, said = ask("get", "/v1/nowhere")
assert status == 404, said
print("good")
