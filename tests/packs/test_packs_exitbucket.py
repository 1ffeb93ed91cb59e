"""A bucket that an exit pack goes to: what broke off there is taken away."""

from __future__ import annotations

import boto3
import pytest
from botocore.exceptions import ClientError

from appliance.config.exits import ExitBucket
from appliance.packs.exitbucket import BucketTarget


@pytest.fixture
def store(tmp_path):
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    keys = tmp_path / "keys"
    keys.write_text("someone\nsecret\n")
    settings = ExitBucket(
        name="cloud", endpoint=f"http://{host}:{port}", bucket="torn-packs", credentials_file=keys
    )
    s3 = boto3.client(
        "s3", endpoint_url=settings.endpoint, region_name="us-east-1",
        aws_access_key_id="someone", aws_secret_access_key="secret",
    )  # fmt: skip
    s3.create_bucket(Bucket="torn-packs")
    yield settings, s3
    server.stop()


def begun(s3, key: str) -> None:
    upload = s3.create_multipart_upload(Bucket="torn-packs", Key=key)["UploadId"]
    s3.upload_part(Bucket="torn-packs", Key=key, UploadId=upload, PartNumber=1, Body=b"RIFF, torn")


def uploads(s3) -> list[str]:
    return [one["Key"] for one in s3.list_multipart_uploads(Bucket="torn-packs").get("Uploads", ())]


def test_uploads_that_broke_off_are_dropped_with_their_folder(store):
    settings, s3 = store
    target = BucketTarget(settings, "trust", "pack")
    target.put("recordings/aa/aaaa/aaaa.json", [b"{}"])
    for key in ("aa/aaaa/aaaa.wav", "bb/bbbb/bbbb.wav"):
        begun(s3, f"trust/pack/recordings/{key}")
    target.drop("recordings/aa/aaaa")
    assert uploads(s3) == ["trust/pack/recordings/bb/bbbb/bbbb.wav"]
    assert not s3.list_objects_v2(Bucket="torn-packs").get("Contents")
    target.close()


def test_a_store_that_lists_no_uploads_holds_nothing_up(store, monkeypatch):
    settings, s3 = store
    target = BucketTarget(settings, "trust", "pack")
    target.put("recordings/aa/aaaa/aaaa.json", [b"{}"])
    paginator = target._s3.get_paginator

    def denied(name):
        if name == "list_multipart_uploads":
            raise ClientError({"Error": {"Code": "AccessDenied"}}, "ListMultipartUploads")
        return paginator(name)

    monkeypatch.setattr(target._s3, "get_paginator", denied)
    target.drop("recordings/aa/aaaa")
    assert not s3.list_objects_v2(Bucket="torn-packs").get("Contents")
    target.close()
