"""What `helm test` runs: asks a gateway as a client would. Environment: GATEWAY (its URL), MODEL, KEY (may be empty), OPEN
("true" without keys)."""

import json
import os
import sys
import time
import urllib.error
import urllib.request

GATEWAY = os.environ["GATEWAY"]
MODEL = os.environ["MODEL"]
KEY = os.environ.get("KEY", "")
OPEN = os.environ.get("OPEN") == "true"
PATIENCE = float(os.environ.get("PATIENCE", "60"))


def call(path: str, body: object = None) -> tuple[int, bytes]:
    """The status and the body of an answer; 0 if there is none."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(GATEWAY + path, data, {"content-type": "application/json"})
    if KEY:
        request.add_header("authorization", f"Bearer {KEY}")
    try:
        with urllib.request.urlopen(request, timeout=120) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError as error:
        return 0, str(error).encode()


def expect(path: str, wanted: int, body: object = None) -> bytes:
    """Asks until the answer is as wanted, or the patience is over."""
    end = time.monotonic() + PATIENCE
    while True:
        status, answer = call(path, body)
        if status == wanted:
            print(f"{path}: {status}")
            return answer
        if time.monotonic() > end:
            sys.exit(f"{path}: {status} where {wanted} was expected: {answer[:500].decode(errors='replace')}")
        time.sleep(1)


question = {"model": MODEL, "messages": [{"role": "user", "content": "What is 17 + 25?"}], "max_tokens": 32}
expect("/healthz", 200)
expect("/readyz", 200)
if KEY or OPEN:
    answer = json.loads(expect("/v1/chat/completions", 200, question))
    print(f"{answer['model']} says: {answer['choices'][0]['message']['content']}")
    stream = expect("/v1/chat/completions", 200, {**question, "stream": True})
    if b"data: [DONE]" not in stream:
        sys.exit(f"the stream has no end: {stream[-500:].decode(errors='replace')}")
    print("a stream came through to its end")
else:
    expect("/v1/chat/completions", 401, question)
    print("without a key nobody is answered")
