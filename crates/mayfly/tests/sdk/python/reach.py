"""Ways out of a sandbox and into it: network settings, previews, SSH tokens."""

import time
import urllib.error
import urllib.parse
import urllib.request

from kit import client, close, now, params, raises, same

INVALID = "DaytonaBadRequestError|DaytonaValidationError|DaytonaError"


async def scenario():
    daytona = client()
    await networks(daytona)
    sandbox = await now(daytona.create(params()))
    await previews(sandbox)
    await ssh(sandbox)
    await now(sandbox.delete())
    await close(daytona)


async def networks(daytona):
    listed = await now(daytona.create(params(network_allow_list="192.0.2.0/24, 198.51.100.7/32")))
    await shows(listed, (False, "192.0.2.0/24,198.51.100.7/32", ""))
    if not hasattr(listed, "update_network_settings"):
        # Clients below 0.190 only know what is said at the beginning.
        return await now(listed.delete())
    set_to = listed.update_network_settings
    await now(set_to(network_block_all=True))
    await shows(listed, (True, "192.0.2.0/24,198.51.100.7/32", ""))
    await now(set_to(domain_allow_list="example.com,*.example.org"))
    await shows(listed, (False, "192.0.2.0/24,198.51.100.7/32", "example.com,*.example.org"))
    await raises(INVALID, lambda: set_to(network_allow_list="192.0.2.0/33"), "192.0.2.0/33")
    await shows(listed, (False, "192.0.2.0/24,198.51.100.7/32", "example.com,*.example.org"))
    await now(set_to(network_block_all=False))
    await shows(listed, (False, "", ""))
    await now(listed.delete())
    blocked = await now(daytona.create(params(network_block_all=True)))
    await shows(blocked, (True, "", ""))
    # Refused, or accepted and reset by whoever judges.
    script = "import socket; s = socket.create_connection(('192.0.2.9', 80), 2); print(len(s.recv(1)))"
    tried = await now(blocked.process.exec(f'python3 -c "{script}"'))
    assert tried.exit_code != 0 or tried.result == "0\n", tried.result
    await now(blocked.delete())


async def shows(sandbox, expected):
    await now(sandbox.refresh_data())
    lists = [getattr(sandbox, name, None) or "" for name in ("network_allow_list", "domain_allow_list")]
    same((sandbox.network_block_all, *lists), expected)


async def previews(sandbox):
    serve = "mkdir -p /tmp/site && cd /tmp/site && echo hello > index.html && setsid python3 -m http.server 8000"
    await now(sandbox.process.exec(f"({serve}) > /dev/null 2>&1 &"))
    link = await now(sandbox.get_preview_link(8000))
    same(await there(link.url, {"x-daytona-preview-token": link.token}), (200, "hello\n"))
    same((await there(link.url, {}))[0], 401)
    same((await there(link.url, {"x-daytona-preview-token": "x" + link.token}))[0], 401)
    signed = await now(sandbox.create_signed_preview_url(8000, 60))
    same(await there(signed.url, {}), (200, "hello\n"))
    await now(sandbox.expire_signed_preview_url(8000, signed.token))
    same((await there(signed.url, {}))[0], 401)
    await raises(INVALID, lambda: sandbox.get_preview_link(0), "port")


async def there(url, headers):
    """What a visitor sees, once the service has begun to listen. The name is not looked up."""
    parts = urllib.parse.urlsplit(url)
    request = urllib.request.Request(f"http://127.0.0.1:{parts.port}/", headers={**headers, "Host": parts.netloc})
    for _ in range(250):
        seen = visit(request)
        if seen[0] != 502:
            return seen
        time.sleep(0.04)
    return seen


def visit(request):
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, ""


async def ssh(sandbox):
    access = await now(sandbox.create_ssh_access(30))
    same((access.sandbox_id, access.ssh_command.startswith("ssh ")), (sandbox.id, True))
    assert access.token in access.ssh_command
    found = await now(sandbox.validate_ssh_access(access.token))
    same((found.valid, found.sandbox_id), (True, sandbox.id))
    await now(sandbox.revoke_ssh_access(access.token))
    same((await now(sandbox.validate_ssh_access(access.token))).valid, False)
