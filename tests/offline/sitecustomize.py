"""Blocks the network for every Python that starts with this folder on its path.

``make test`` sets PYTHONPATH to this folder, so that pytest, its workers and the notebooks' kernels
can reach nothing but this machine. What needs the Internet then fails at once, as on a train.
"""

import ipaddress
import socket

_connect = socket.socket.connect
_connect_ex = socket.socket.connect_ex
_getaddrinfo = socket.getaddrinfo


def _refuse_if_remote(host):
    if host in (None, "", "localhost", b"localhost") or str(host).startswith("/"):
        return
    try:
        local = ipaddress.ip_address(str(host).split("%")[0]).is_loopback
    except ValueError:
        local = host == socket.gethostname()
    if not local:
        raise OSError(101, f"Network is unreachable: tests run offline, {host} was wanted")


def _checked(connect):
    def guarded(self, address):
        if self.family in (socket.AF_INET, socket.AF_INET6):
            _refuse_if_remote(address[0])
        return connect(self, address)

    return guarded


def _local_getaddrinfo(host, *args, **kwargs):
    try:
        if host not in ("0.0.0.0", "::", b"0.0.0.0"):
            _refuse_if_remote(host.decode() if isinstance(host, bytes) else host)
    except OSError as blocked:
        raise socket.gaierror(socket.EAI_NONAME, str(blocked)) from None
    return _getaddrinfo(host, *args, **kwargs)


socket.socket.connect = _checked(_connect)
socket.socket.connect_ex = _checked(_connect_ex)
socket.getaddrinfo = _local_getaddrinfo
