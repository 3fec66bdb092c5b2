"""Prints one tenant of a datastore as JSON: read.py host:port user key datastore tenant neighborhood."""
import json
import sys
import time

from ncclient import manager

AUTHY = "{http://128technology.com/t128/config/authority-config}"

address, user, key, datastore, tenant, neighborhood = sys.argv[1:]
host, port = address.rsplit(":", 1)
with manager.connect(host=host, port=int(port), username=user, key_filename=key, hostkey_verify=False,
                     allow_agent=False, look_for_keys=False, timeout=60) as m:
    time.sleep(0.2)  # netconfd never answers an operation that it reads together with the client's hello
    data = m.get_config(source=datastore, filter=("subtree",
        '<config xmlns="http://128technology.com/t128"/>')).data_ele

result = {"exists": False, "description": None, "addresses": []}
for t in data.iter(AUTHY + "tenant"):
    if t.findtext(AUTHY + "name") != tenant:
        continue
    result["exists"] = True
    result["description"] = t.findtext(AUTHY + "description")
    for m in t.findall(AUTHY + "member"):
        if m.findtext(AUTHY + "neighborhood") == neighborhood:
            result["addresses"] += [a.text for a in m.findall(AUTHY + "address")]
json.dump(result, sys.stdout)
