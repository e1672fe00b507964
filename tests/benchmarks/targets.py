"""From a targets file to servers that run and answer."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import time

from tests.benchmarks.processes import ask, free_port, wait_ready
from tests.benchmarks.scenarios import CHAT, HERE, MARK, Target


def build(folder):
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("upstream", "load"):
        source, binary = HERE / f"{name}.c", folder / name
        if not binary.exists() or binary.stat().st_mtime < source.stat().st_mtime:
            subprocess.run([os.environ.get("CC", "cc"), "-O2", "-o", str(binary), str(source)], check=True)
    return folder


def pick_cores(args):
    """(core of upstreams and load, cores of the targets), as taskset writes them; None where nothing is pinned."""
    cores = sorted(os.sched_getaffinity(0))
    if args.no_pin or len(cores) < 2 or not shutil.which("taskset"):
        return None, None
    return args.load_cores or str(cores[0]), args.target_cores or str(cores[1])


def start_upstreams(args, processes, core):
    ports = [int(p) for p in args.upstream_ports.split(",")] if args.upstream_ports else [free_port(), free_port()]
    urls = []
    for port, model in zip(ports, ("small", "large"), strict=False):
        url = f"http://127.0.0.1:{port}"
        process = processes.start(f"upstream-{model}", [str(args.build / "upstream"), "--port", str(port), "--model", model], core)
        if not wait_ready(url + "/health", process, 5, ()):
            sys.exit(f"bench: upstream on port {port}: {processes.log_tail(f'upstream-{model}')}")
        urls.append(url)
    return urls


def fill(text, values):
    for name, value in values.items():
        text = text.replace("{" + name + "}", str(value))
    return text


def placeholders(args, upstreams, work):
    first, second = (url.removeprefix("http://") for url in upstreams)
    return {
        "port": free_port(),
        "port2": free_port(),
        "upstream": first,
        "upstream2": second,
        "folder": work,
        "config": work / "config",
        "peers": args.peers or "peers-not-given",
        "python": sys.executable,
        "repo": HERE.parent.parent,
    }


def version_of(program, distribution):
    """The distribution's version where the program lies in a virtual environment, else the first line of `program -v`."""
    python = pathlib.Path(program).parent / "python"
    command = [program, "-v"]
    if python.exists():
        command = [str(python), "-c", f"from importlib.metadata import version; print(version({distribution!r}))"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return ((done.stdout + done.stderr).strip().splitlines() or [""])[0 if done.returncode == 0 else -1]


def start_target(name, spec, args, processes, upstreams, core):
    """Starts one target of a targets file and asks it for a plain and a streamed answer."""
    work = processes.folder / name
    work.mkdir()
    values = placeholders(args, upstreams, work)
    command = [fill(part, values) for part in spec["command"]]
    target = Target(name, f"http://127.0.0.1:{values['port']}", spec.get("model", "small"), spec.get("headers", []))
    if not shutil.which(command[0]):
        target.state = "not installed"
        return target
    if "config" in spec:
        template = spec["home"] / spec["config"]
        values["config"] = work / template.name
        values["config"].write_text(fill(template.read_text(), values))
        command = [fill(part, values) for part in spec["command"]]
    if "prepare" in spec:
        subprocess.run([fill(part, values) for part in spec["prepare"]], check=True, cwd=values["repo"], timeout=600)
    target.version = version_of(command[0], spec.get("distribution", name))
    env = {name: fill(value, values) for name, value in spec.get("env", {}).items()}
    target.process = processes.start(target.name, command, core, env)
    url = fill(spec.get("ready", "http://127.0.0.1:{port}/health"), values)
    ready = wait_ready(url, target.process, spec.get("patience", 60), target.headers)
    target.state = check(target) if ready else f"failed: not ready: {processes.log_tail(target.name)}"
    return target


def check(target):
    for stream, end in ((False, b"}"), (True, b"data: [DONE]")):
        body = prompt_body(target.model, "small", stream).replace(MARK, "0123456789abcdef")
        for _attempt in range(20):  # some routers know their backends only after a moment
            status, answer = ask(target.url + CHAT, "POST", body, target.headers, timeout=30)
            if status == 200 and answer.strip().endswith(end):
                break
            time.sleep(0.5)
        else:
            return f"failed: {'streamed' if stream else 'plain'} request: status {status}: {answer[:300]!r}"
    return "running"


def prompt_body(model, prompt, stream):
    text = f"{MARK} What is the capital of France? Answer in one sentence, please, and name its river."
    if prompt == "big":
        text += " The quick brown fox jumps over the lazy dog, number after number, and never tires of it." * 1124
    body = {
        "model": model,
        "messages": [{"role": "system", "content": "You are a helpful assistant."}, {"role": "user", "content": text}],
        "max_tokens": 100,
        "temperature": 0.7,
    }
    return json.dumps(body | {"stream": True} if stream else body)
