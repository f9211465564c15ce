"""Runs in a process whose network is cut off: starts `rcmed annotate`, asks it as 3D Slicer and OHIF do, prints JSON.

Arguments: the command `rcmed`, the folder of studies, the state folder.
"""

from __future__ import annotations

import fcntl
import json
import signal
import socket
import struct
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

OUTSIDE = ("192.0.2.1", 443)  # TEST-NET-1, RFC 5737
OHIF_PARAMS = {
    "prompt": "optic disc; left lung",
    "result_extension": ".nrrd",
    "result_dtype": "uint8",
    "result_compress": False,
    "restore_label_idx": False,
}


def bring_loopback_up() -> None:
    """A new network namespace has its loopback down; SIOCGIFFLAGS, SIOCSIFFLAGS of netdevice(7)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        request = struct.pack("16sH14x", b"lo", 0)
        flags = struct.unpack("16sH14x", fcntl.ioctl(control, 0x8913, request))[1]
        fcntl.ioctl(control, 0x8914, struct.pack("16sH14x", b"lo", flags | 1))


def is_cut_off() -> bool:
    try:
        socket.create_connection(OUTSIDE, timeout=3).close()
    except TimeoutError:
        return False
    except OSError:
        return True
    return False


def ask_as_ohif(address: str, image: str) -> bytes:
    body = f'--b\r\nContent-Disposition: form-data; name="params"\r\n\r\n{json.dumps(OHIF_PARAMS)}\r\n--b--\r\n'
    request = urllib.request.Request(
        f"{address}infer/rcmed?image={image}&output=image",
        body.encode(),
        {"Content-Type": "multipart/form-data; boundary=b", "Accept": "application/json,multipart/form-data"},
    )
    with urllib.request.urlopen(request) as reply:
        content: bytes = reply.read()
        return content


def main(rcmed: str, studies: Path, state: Path) -> None:
    from monailabel.client.client import MONAILabelClient

    bring_loopback_up()
    told = {"is_cut_off": is_cut_off()}
    command = [rcmed, "annotate", "--studies", str(studies), "--state", str(state), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = server.stdout.readline()
        address = line.rsplit(" ", 1)[-1].strip().rstrip(")")
        told["ohif"] = server.stdout.readline().strip()
        client = MONAILabelClient(address, tmpdir=str(state))
        told["models"] = sorted(client.info()["models"])
        params = {"prompt": "optic disc; retinal vessel", "result_extension": ".nrrd", "result_dtype": "uint8"}
        for name in ("first", "second"):
            started = time.perf_counter()
            mask, told[name] = client.infer("rcmed", "fundus--retina", dict(params))
            told[f"{name}_seconds"] = time.perf_counter() - started
            Path(mask).rename(state / f"{name}.nrrd")
        mask, told["volume"] = client.infer(
            "rcmed", "mr--head", {"prompt": "brain tumor; liver", "result_extension": ".nrrd"}
        )
        Path(mask).rename(state / "volume.nrrd")
        (state / "ohif.nrrd").write_bytes(ask_as_ohif(address, "fundus--retina"))
        server.send_signal(signal.SIGTERM)
        told["rest"] = server.stdout.read()
        told["status"] = server.wait(60)
    print(json.dumps(told))


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
