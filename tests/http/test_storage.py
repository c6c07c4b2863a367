from __future__ import annotations

import re
import time
from dataclasses import replace
from pathlib import Path

from fixtures_http import Scratch, app_served
from storageserver import Service, fetch, send


def test_the_service_says_hello_in_the_words_that_the_old_client_waits_for(service: Service) -> None:
    assert service.ask("").text.lower().startswith("hello world")


def test_a_file_goes_there_and_back_by_urls_that_need_no_token(service: Service) -> None:
    content = bytes(range(256)) * 1000
    told = service.ask("/put", name="vos://ids/a.bin")
    assert re.fullmatch(rf"{service.url}/storage/transfer/[A-Za-z0-9_.-]+", told.text)
    stored = service.web.put(told.text, content=content)
    assert (stored.status_code, stored.json()["size"]) == (201, len(content))
    assert (service.folder / "alice" / "ids" / "a.bin").read_bytes() == content
    assert fetch(service, "vos://ids/a.bin") == content
    assert service.web.put(told.text, content=b"later").status_code == 200
    assert fetch(service, "ids/a.bin") == b"later"


def test_the_calls_of_the_old_client_are_answered_as_it_expects(service: Service) -> None:
    for name in ("b.csv", "a.csv"):
        send(service, f"vos://{name}", b"123")
    expected: list[tuple[str, dict[str, str], int, str]] = [
        ("/isdir", {"name": "vos://"}, 200, "True"),
        ("/isdir", {"name": "vos://a.csv"}, 200, "False"),
        ("/isdir", {"name": "vos://nothing"}, 200, "False"),
        ("/access", {"name": "vos://a.csv", "mode": "None", "verbose": "True"}, 200, "True"),
        ("/access", {"name": "vos://a.csv", "mode": "rw"}, 200, "True"),
        ("/access", {"name": "vos://nothing", "mode": ""}, 200, "False"),
        ("/ls", {"name": "vos://", "format": "csv", "verbose": "False"}, 200, "a.csv,b.csv,public"),
        ("/ls", {}, 200, "a.csv,b.csv,public"),
        ("/ls", {"name": "vos:///", "format": "raw"}, 200, "a.csv\nb.csv\npublic"),
        ("/mkdir", {"dir": "vos://results"}, 201, "OK"),
        ("/isdir", {"name": "vos://results"}, 200, "True"),
        ("/mv", {"from": "vos://a.csv", "to": "vos://results"}, 200, "COMPLETED"),
        ("/cp", {"from": "vos://results/a.csv", "to": "vos://c.csv"}, 200, "COMPLETED"),
        ("/ls", {"name": "vos://results"}, 200, "a.csv"),
        ("/rmdir", {"dir": "vos://results"}, 400, "Error: name: 'vos://results' is not empty"),
        ("/rm", {"file": "vos://results/a.csv"}, 204, ""),
        ("/rmdir", {"dir": "vos://results"}, 204, ""),
        ("/ls", {"name": "vos://"}, 200, "b.csv,c.csv,public"),
        ("/rm", {"file": "vos://nothing"}, 404, "Error: name: there is no 'vos://nothing'"),
        ("/get", {"name": "vos://nothing"}, 404, "Error: name: there is no 'vos://nothing'"),
        ("/get", {"name": "vos://public"}, 400, "Error: name: 'vos://public' is a folder"),
        ("/put", {"name": "vos://public"}, 400, "Error: name: 'vos://public' is a folder that stays as it is"),
        ("/put", {"name": "vos://b.csv/x"}, 400, "Error: name: 'b.csv' is not a folder"),
        ("/stat", {}, 400, "Param Error: 'name'"),
        ("/cp", {"to": "x"}, 400, "Param Error: 'from'"),
    ]
    for path, parameters, status, text in expected:
        answer = service.ask(path, **parameters)
        assert (path, answer.status_code, answer.text) == (path, status, text)


def test_every_call_takes_post_as_well(service: Service) -> None:
    send(service, "a", b"x")
    assert service.ask("/cp", method="POST", **{"from": "a", "to": "b"}).text == "COMPLETED"
    assert service.ask("/ls", method="POST").text == "a,b,public"


def test_stat_tells_what_old_clients_know_of_a_file(service: Service) -> None:
    send(service, "public/a.csv", b"123")
    told = service.ask("/stat", "bob", name="alice://public/a.csv", verbose="True").json()
    when = told.pop("modified")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", when)
    assert told == {
        "name": "a.csv",
        "owner": "alice",
        "type": "data",
        "size": 3,
        "perms": "-rw-r--r--",
        "publicread": 1,
        "groupread": "",
        "groupwrite": "",
        "target": "",
    }
    top = service.ask("/stat", name="vos://").json()
    assert (top["name"], top["type"], top["perms"], top["publicread"]) == ("/", "container", "drwx------", 0)
    assert service.ask("/stat", name="vos://nothing").status_code == 404


def test_a_long_list_and_one_in_json_tell_sizes(service: Service) -> None:
    send(service, "a.csv", b"123")
    long = service.ask("/ls", format="long").text.split("\n")
    assert re.fullmatch(r"-rw------- +alice +3 +\d{4}-\d\d-\d\d \d\d:\d\d +a\.csv", long[0])
    assert re.fullmatch(r"drwxr-xr-x +alice +0 +public", long[1])
    listed = service.ask("/ls", format="json").json()
    assert [(node["name"], node["type"], node["size"]) for node in listed] == [
        ("a.csv", "data", 3),
        ("public", "container", 0),
    ]
    assert service.ask("/ls", format="xml").status_code == 400


def test_rights_are_statuses(service: Service) -> None:
    send(service, "a", b"x")
    send(service, "public/a", b"x")
    assert service.ask("/get", "bob", name="alice://a").status_code == 403
    assert service.ask("/get", "bob", name="alice://nothing").status_code == 403
    assert service.ask("/put", "bob", name="alice://public/b").status_code == 403
    assert service.ask("/rm", "bob", file="alice://public/a").status_code == 403
    assert service.ask("/ls", "anonymous", name="vos://").status_code == 401
    assert service.ask("/put", "anonymous", name="vos://a").status_code == 401
    assert fetch(service, "alice://public/a", "anonymous") == b"x"
    answers = [
        ("alice", "vos://a", "w", "True"),
        ("bob", "alice://public/a", "r", "True"),
        ("bob", "alice://public/a", "rw", "False"),
        ("bob", "alice://a", "r", "False"),
        ("anonymous", "vos://a", "r", "False"),
        ("anonymous", "alice://public/a", "", "True"),
    ]
    for user, name, mode, answer in answers:
        assert service.ask("/access", user, name=name, mode=mode).text == answer
    assert service.ask("/ls", "anonymous", name="alice://public").text == "a"


def test_a_forged_token_is_refused(service: Service) -> None:
    forged = {"X-DL-AuthToken": service.tokens["alice"].replace("alice", "bob")}
    for url in ("/storage/ls", "/storage/files/a"):
        assert service.web.get(service.url + url, headers=forged).status_code == 401
    assert service.web.put(f"{service.url}/storage/files/a", headers=forged, content=b"x").status_code == 401
    assert not any((service.folder / user).exists() for user in service.tokens)


def test_a_url_is_for_one_direction_and_one_file_and_cannot_be_forged(service: Service) -> None:
    send(service, "a", b"x")
    getting, putting = service.ask("/get", name="a").text, service.ask("/put", name="a").text
    assert service.web.put(getting, content=b"changed").status_code == 401
    assert service.web.get(putting).status_code == 401
    assert service.web.head(putting).status_code == 401
    start = getting.rpartition("/")[0]
    other = service.ask("/get", "bob", name="alice://public/nothing").text
    assert other.startswith("Error")
    for signature in ("x", getting.rpartition("/")[2][:-1], "." + getting.rpartition("/")[2], "%00"):
        assert service.web.get(f"{start}/{signature}").status_code == 401
    payload, rest = getting.rpartition("/")[2].split(".", 1)
    changed = payload[:-3] + ("AAA" if payload[-3:] != "AAA" else "BBB")
    assert service.web.get(f"{start}/{changed}.{rest}").status_code == 401
    assert service.web.get(getting).content == b"x"


def test_a_url_lives_for_a_short_time_and_only_where_it_was_given(
    service: Service, scratch: Scratch, tmp_path: Path
) -> None:
    with app_served(scratch.running, scratch.data, tmp_path, storage_url_seconds=1) as app:
        brief = replace(service, url=str(app.web.base_url).rstrip("/"), folder=tmp_path)
        send(brief, "a", b"x")
        send(service, "a", b"elsewhere")
        getting, putting = brief.ask("/get", name="a").text, brief.ask("/put", name="a").text
        for url in (getting, putting):
            assert service.web.get(url.replace(brief.url, service.url)).status_code == 401
        assert service.web.get(getting).content == b"x"
        time.sleep(2.1)  # signatures hold whole seconds
        for answer in (service.web.get(getting), service.web.put(putting, content=b"changed")):
            assert answer.status_code == 401
            assert "of the last 1 s" in answer.text
        assert (tmp_path / "alice" / "a").read_bytes() == b"x"


def test_what_is_not_served_says_so(service: Service) -> None:
    for path, parameters, why in (
        ("/ln", {"from": "vos://a", "to": "vos://b"}, "copy 'vos://a' with cp"),
        ("/tag", {"name": "a", "tag": "word"}, "'word'"),
        ("/load", {"name": "a", "endpoint": "http://127.0.0.1/", "is_vospace": "False"}, "'http://127.0.0.1/'"),
    ):
        answer = service.ask(path, **parameters)
        assert answer.status_code == 400
        assert why in answer.text


def test_openapi_lists_the_calls_with_their_statuses(service: Service) -> None:
    paths = service.web.get(f"{service.url}/openapi.json").json()["paths"]
    assert set(paths["/storage/files/{path}"]) == {"get", "head", "put", "delete"}
    assert set(paths["/storage/transfer/{signature}"]) == {"get", "head", "put"}
    for path in ("/storage/files/{path}", "/storage/transfer/{signature}"):
        for call in paths[path].values():
            assert {"401", "404", "413"} <= set(call["responses"])
            assert "422" not in call["responses"]
            assert [parameter["in"] for parameter in call["parameters"]] == ["path"]
    assert set(paths["/storage/mkdir"]["get"]["responses"]) >= {"201", "400"}
    assert set(paths["/storage/rm"]["get"]["responses"]) >= {"204", "404"}
    assert [about["name"] for about in paths["/storage/mv"]["get"]["parameters"]][-2:] == ["from", "to"]
