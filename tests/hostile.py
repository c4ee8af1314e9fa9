"""Texts that an attacker may choose to confuse us: names, command lines and cgroups."""

from __future__ import annotations

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st


def examples(number: int) -> settings:
    """The same ones on every run. No deadline: it is a clock."""
    return settings(
        max_examples=number,
        derandomize=True,
        deadline=None,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )


HOSTILE = (
    *(
        "",
        " ",
        "a\nb",
        "a\rb",
        "\t",
        "\x1b[2J\x1b]0;x\x07",
        "\x9b31m",
        '"',
        "'",
        "\\",
        "\\n",
        "\\x0a",
    ),
    *(
        'a" b="c',
        "{}",
        "},",
        "=",
        ",",
        ",,",
        "a,b=c",
        "~",
        "~0123456789abcdef",
        ":",
        "a:b:/c",
        "%s",
    ),
    *("\u202e", "\u2028", "\u0085", "\u200b", "\ufeff", "\udcff", "\ud800", "\U000e0001", "\u0301"),
    *("A" * 4096, "A" * 4095 + "B", "é" * 300, "../..", "..", ".", "/", "//", "a/b", "٣", "-1"),
    *("-name", "guest=mail", "ab" * 32, "docker-" + "ab" * 32 + ".scope", "user@1000.service"),
)
TEXTS = st.sampled_from(HOSTILE) | st.text(st.characters(exclude_categories=()), max_size=12)
# Every shape that a recogniser looks for, with room for two names.
PATHS = st.sampled_from(
    [
        *("/{}", "/{}/{}", "/system.slice/{}.service/{}", "/{}.slice/{}.scope", "/_{}.service"),
        *("/machine.slice/machine-{}.scope/{}", "/machine.slice/machine-qemu\\x2d1\\x2d{}.scope"),
        *("/machine/{}.libvirt-qemu/{}", "/libvirt/qemu/{}", "/machine/qemu-1-{}.libvirt-lxc"),
        *("/qemu.slice/{}.scope", "/qemu.slice/100.scope/{}", "/firecracker/{}/{}"),
        *("/kubepods/pod{}/{}", "/kubepods/burstable/pod{}", "/{}-kubepods-pod{}.slice"),
        *("/kubepods-besteffort-pod{}.slice:cri-containerd:" + "ab" * 32, "/kubepods/{}/pod{}"),
        *(
            "/docker/{}",
            "/{}/" + "ab" * 32,
            "/{}-" + "ab" * 32 + ".scope/{}",
            "/{}:{}:" + "ab" * 32,
        ),
        *("/lxc/{}/{}", "/lxc.payload.{}", "/lxc.monitor/{}", "/user.slice/user-{}.slice/{}.scope"),
        *("/user.slice/user-1000.slice/user@1000.service/{}.slice/{}.service", "{}", "{}/{}"),
        *(
            "/user.slice/user-1000.slice/session-{}.scope/{}",
            "/system.slice/systemd-nspawn@{}.service",
        ),
    ]
)
LINES = (
    "0::{}",
    "1:name=systemd:{}\n0::/",
    "x:{}",
    "7:memory:{}\n0::/init.scope",
    "{}",
    "0::/\n{}",
)
CGROUPS = st.builds(
    lambda line, path, first, second: line.format(path.format(first, second)),
    *(st.sampled_from(LINES), PATHS, TEXTS, TEXTS),
)
ARGVS = st.builds(
    lambda argv, first, second: argv.format(first, second).encode(errors="surrogatepass"),
    st.sampled_from(
        [
            *("{}", "{}\0{}\0", "qemu-kvm\0-name\0{}\0-uuid\0{}\0", "kvm\0-id\0{}\0-name\0{}\0"),
            *("qemu-system-{}\0-name\0{}", "kvm\0-name\0guest=ns_{},{}", "kvm\0-name", "kvm\0\0"),
            *("firecracker\0--id\0{}\0--id={}", "firecracker-v{}\0--id={}", "\0\0{}"),
            *("cloud-hypervisor\0--api-socket\0{}\0--platform\0uuid={}", "a/{}/kvm\0-name\0{}"),
        ]
    ),
    *(TEXTS, TEXTS),
)
UIDS = st.sampled_from([0, 107, 1000, 60513, 65534, 100000, 2**32 - 2])
