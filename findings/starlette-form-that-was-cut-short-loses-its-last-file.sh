#!/usr/bin/env bash
# starlette 1.10.0 with python-multipart 0.0.34: a form with two files whose end is missing, as after a proxy or a client
# that stops early. `request.form()` raises nothing: the file that was cut is not there, and those before it are, so that
# a handler answers for one file where two were sent. A handler that must not lose a file has to look for the last
# boundary itself.
# Seen: "whole: ['a.png', 'b.png']", "cut: ['a.png']", "cut in the first: []".
set -euo pipefail
work=$(mktemp -d /tmp/f.XXXX)
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet --no-compile starlette==1.10.0 python-multipart==0.0.34
cat > "$work/try.py" <<'P'
import asyncio
from starlette.requests import Request

def part(name):
    return (f'--B\r\nContent-Disposition: form-data; name="image"; filename="{name}"\r\n'
            "Content-Type: image/png\r\n\r\n" + 100 * "x" + "\r\n")

async def files(body):
    async def receive():
        return {"type": "http.request", "body": body, "more_body": False}
    headers = [(b"content-type", b"multipart/form-data; boundary=B")]
    async with Request({"type": "http", "method": "POST", "headers": headers}, receive).form() as form:
        return [value.filename for _, value in form.multi_items()]

whole = (part("a.png") + part("b.png") + "--B--\r\n").encode()
for what, body in (("whole", whole), ("cut", whole[:-30]), ("cut in the first", whole[:150])):
    print(f"{what}: {asyncio.run(files(body))}")
P
seen=$("$work/venv/bin/python" "$work/try.py")
echo "$seen"
[ "$seen" = "whole: ['a.png', 'b.png']
cut: ['a.png']
cut in the first: []" ]
