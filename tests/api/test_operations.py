from tests.support.serving import Serving


async def test_healthz(service: Serving) -> None:
    assert (await service.client.get("/healthz")).json() == {"status": "ok"}


async def test_chat(service: Serving) -> None:
    r = await service.client.post("/v1/chat/completions", json={"model": "quorum/simple", "messages": [{"role": "user", "content": "hi"}]})
    print(r.text)
    assert r.status_code == 200
