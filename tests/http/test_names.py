"""Host names: what is remembered and for how long, who shares a look-up, and what a cancelled waiter takes along."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence

import pytest

from tests.loop.kit import Run
from weft.http.errors import ResolveError
from weft.http.names import Names


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Resolver:
    """Answers as told, counts the questions, and waits while ``gate`` is closed."""

    def __init__(self, *answers: Sequence[str] | Exception, ttl: float = 60.0) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []
        self.cancelled = 0
        self.ttl = ttl
        self.gate = asyncio.Event()
        self.gate.set()
        self.begun = asyncio.Event()

    async def __call__(self, host: str) -> tuple[Sequence[str], float]:
        self.asked.append(host)
        self.begun.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer, self.ttl


NOT_KNOWN = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


class TestLiterals:
    @pytest.mark.parametrize(
        ("host", "expected"),
        [
            ("127.0.0.1", (socket.AF_INET, ("127.0.0.1", 80))),
            ("::1", (socket.AF_INET6, ("::1", 80, 0, 0))),
            ("fe80::1%1", (socket.AF_INET6, ("fe80::1", 80, 0, 1))),
            ("fe80::1%lo", (socket.AF_INET6, ("fe80::1", 80, 0, socket.if_nametoindex("lo")))),
        ],
    )
    def test_an_address_needs_nobody(self, run: Run, host: str, expected: object) -> None:
        async def main() -> None:
            resolver = Resolver(NOT_KNOWN)
            assert await Names(resolver=resolver).resolve(host, 80) == [expected]
            assert resolver.asked == []

        run(main())

    def test_an_interface_that_is_not_there(self, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(ResolveError, match="there is no network interface 'none0'"):
                await Names().resolve("fe80::1%none0", 80)

        run(main())

    def test_the_family_that_is_wanted(self, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(ResolveError, match=r"127\.0\.0\.1 has no IPv6 address"):
                await Names().resolve("127.0.0.1", 80, socket.AF_INET6)

        run(main())


class TestTheSystem:
    def test_localhost(self, run: Run) -> None:
        async def main() -> None:
            assert (socket.AF_INET, ("127.0.0.1", 80)) in await Names().resolve("localhost", 80)

        run(main())

    def test_every_address_once(self, run: Run) -> None:
        async def main() -> None:
            async def getaddrinfo(host: str, port: object, **hints: object) -> list[object]:
                info = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))
                return [info, (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", 0, 0, 3)), info]

            asyncio.get_running_loop().getaddrinfo = getaddrinfo  # type: ignore[method-assign, assignment]
            assert await Names().resolve("a.test", 443) == [
                (socket.AF_INET, ("192.0.2.1", 443)),
                (socket.AF_INET6, ("fe80::1", 443, 0, 3)),
            ]

        run(main())

    def test_a_name_that_cannot_be(self, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(ResolveError, match="cannot resolve x") as info:
                await Names().resolve(64 * "x" + ".test", 80)
            assert info.value.__cause__ is not None

        run(main())


class TestOrder:
    def test_families_alternate(self, run: Run) -> None:
        async def main() -> None:
            resolver = Resolver(["2001:db8::1", "2001:db8::2", "2001:db8::3", "192.0.2.1"])
            found = await Names(resolver=resolver).resolve("a.test", 80)
            assert [address[0] for _, address in found] == ["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3"]

        run(main())

    def test_the_best_address_stays_first(self, run: Run) -> None:
        async def main() -> None:
            found = await Names(resolver=Resolver(["192.0.2.1", "192.0.2.2", "2001:db8::1"])).resolve("a.test", 80)
            assert [address[0] for _, address in found] == ["192.0.2.1", "2001:db8::1", "192.0.2.2"]

        run(main())

    def test_one_family(self, run: Run) -> None:
        async def main() -> None:
            names = Names(resolver=Resolver(["2001:db8::1", "192.0.2.1"]))
            assert await names.resolve("a.test", 80, socket.AF_INET) == [(socket.AF_INET, ("192.0.2.1", 80))]

        run(main())


class TestCache:
    def test_an_answer_holds_for_its_time(self, run: Run) -> None:
        async def main() -> None:
            clock, resolver = Clock(), Resolver(["192.0.2.1"], ["192.0.2.2"], ttl=30)
            names = Names(ttl=1, resolver=resolver, clock=clock)
            assert await names.resolve("a.test", 80) == [(socket.AF_INET, ("192.0.2.1", 80))]
            clock.now += 29.9
            assert await names.resolve("A.TEST", 81) == [(socket.AF_INET, ("192.0.2.1", 81))]
            clock.now += 0.1
            assert await names.resolve("a.test", 80) == [(socket.AF_INET, ("192.0.2.2", 80))]
            assert resolver.asked == ["a.test"] * 2

        run(main())

    def test_the_systems_answers_hold_for_ours(self, run: Run) -> None:
        async def main() -> None:
            asked = []

            async def getaddrinfo(host: str, port: object, **hints: object) -> list[object]:
                asked.append(host)
                return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("192.0.2.1", 0))]

            asyncio.get_running_loop().getaddrinfo = getaddrinfo  # type: ignore[method-assign, assignment]
            clock = Clock()
            names = Names(ttl=10, clock=clock)
            for seconds in (0, 9.9, 0.1):
                clock.now += seconds
                await names.resolve("a.test", 80)
            assert len(asked) == 2

        run(main())

    def test_no_time_is_no_cache(self, run: Run) -> None:
        async def main() -> None:
            resolver = Resolver(["192.0.2.1"], ttl=0)
            names = Names(resolver=resolver, clock=Clock())
            await names.resolve("a.test", 80)
            await names.resolve("a.test", 80)
            assert len(resolver.asked) == 2

        run(main())

    def test_forgetting(self, run: Run) -> None:
        async def main() -> None:
            resolver = Resolver(["192.0.2.1"], ["192.0.2.2"])
            names = Names(resolver=resolver)
            await names.resolve("a.test", 80)
            names.forget("A.test")
            names.forget("never.test")
            assert await names.resolve("a.test", 80) == [(socket.AF_INET, ("192.0.2.2", 80))]

        run(main())

    def test_the_one_that_is_unused_for_longest_goes(self, run: Run) -> None:
        async def main() -> None:
            resolver = Resolver(["192.0.2.1"])
            names = Names(max_hosts=2, resolver=resolver)
            for host in ("a", "b", "a", "c", "a", "b"):
                await names.resolve(host, 80)
            assert resolver.asked == ["a", "b", "c", "b"]

        run(main())


class TestFailures:
    @pytest.mark.parametrize("answer", [NOT_KNOWN, []])
    def test_a_failure_holds_for_a_second(self, run: Run, answer: Sequence[str] | Exception) -> None:
        async def main() -> None:
            clock, resolver = Clock(), Resolver(answer, ["192.0.2.1"])
            names = Names(resolver=resolver, clock=clock)
            errors = []
            for _ in range(2):
                with pytest.raises(ResolveError, match=r"cannot resolve a\.test: ") as info:
                    await names.resolve("a.test", 80)
                errors.append(info.value)
            assert errors[0] is not errors[1]
            assert resolver.asked == ["a.test"]
            clock.now += 1.0
            assert await names.resolve("a.test", 80)

        run(main())

    def test_a_resolver_that_is_down_is_asked_again(self, run: Run) -> None:
        async def main() -> None:
            down = socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
            names = Names(resolver=Resolver(down, ["192.0.2.1"]), clock=Clock())
            with pytest.raises(ResolveError, match="Temporary failure") as info:
                await names.resolve("a.test", 80)
            assert info.value.__cause__ is down
            assert await names.resolve("a.test", 80)

        run(main())

    def test_what_is_no_address(self, run: Run) -> None:
        async def main() -> None:
            with pytest.raises(ResolveError, match=r"the resolver gave 'b\.test', which is not an IP address"):
                await Names(resolver=Resolver(["b.test"])).resolve("a.test", 80)

        run(main())

    def test_a_broken_resolver_is_heard_of(self, run: Run) -> None:
        async def main() -> None:
            names = Names(resolver=Resolver(ZeroDivisionError()))
            with pytest.raises(ZeroDivisionError):
                await names.resolve("a.test", 80)

        run(main())


class TestSharing:
    def test_one_look_up_for_all_who_wait(self, run: Run) -> None:
        async def main() -> None:
            resolver = Resolver(["192.0.2.1"], ttl=0)
            names = Names(resolver=resolver)
            answers = await asyncio.gather(*(names.resolve("a.test", port) for port in range(1, 101)))
            assert [answer[0][1][1] for answer in answers] == list(range(1, 101))
            assert resolver.asked == ["a.test"]

        run(main())

    def test_a_failure_is_everybodys_own(self, run: Run) -> None:
        async def main() -> None:
            names = Names(resolver=Resolver(NOT_KNOWN))
            errors = await asyncio.gather(*(names.resolve("a.test", 80) for _ in range(3)), return_exceptions=True)
            assert [type(error) for error in errors] == [ResolveError] * 3
            assert len(set(map(id, errors))) == 3

        run(main())

    def test_who_is_cancelled_leaves_the_others_their_look_up(self, run: Run) -> None:
        async def main() -> None:
            resolver = Resolver(["192.0.2.1"])
            resolver.gate.clear()
            names = Names(resolver=resolver)
            first, second = (asyncio.ensure_future(names.resolve("a.test", 80)) for _ in range(2))
            await resolver.begun.wait()
            first.cancel()
            await asyncio.wait([first])
            resolver.gate.set()
            assert await second
            assert first.cancelled()
            assert resolver.asked == ["a.test"]

        run(main())

    def test_the_last_one_takes_it_along(self, run: Run) -> None:
        async def main() -> None:
            resolver = Resolver(["192.0.2.1"])
            resolver.gate.clear()
            names = Names(resolver=resolver)
            tasks = [asyncio.ensure_future(names.resolve("a.test", 80)) for _ in range(2)]
            await resolver.begun.wait()
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            await asyncio.sleep(0)
            assert resolver.cancelled == 1

        run(main())

    def test_nobody_joins_a_look_up_that_is_being_cancelled(self, run: Run) -> None:
        async def main() -> None:
            resolver = Resolver(["192.0.2.1"])
            resolver.gate.clear()
            names = Names(resolver=resolver)
            first = asyncio.ensure_future(names.resolve("a.test", 80))
            await resolver.begun.wait()
            first.cancel()
            second = asyncio.ensure_future(names.resolve("a.test", 80))  # runs before the look-up has seen its end
            await asyncio.wait([first])
            resolver.gate.set()
            assert await second

        run(main())
