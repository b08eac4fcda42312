"""Plain Open Inference V2 JSON, as a notebook sends it with `requests`, against the demo's `iris` model on MLServer.

The address is a base URL such as http://127.0.0.1:8080 or, through HTTP_PROXY, http://iris.
"""

import requests

from counts import Counts, flags, headers

parser = flags(__doc__, "base URL")
parser.add_argument("--model", default="iris")
parser.add_argument("--version", default="", help="the model version to ask for: v1 or v2")
arguments = parser.parse_args()

version = f"/versions/{arguments.version}" if arguments.version else ""
url = f"{arguments.address}/v2/models/{arguments.model}{version}/infer"
FLOWER = [5.1, 3.5, 1.4, 0.2]
BODY = {"inputs": [{"name": "measurements", "datatype": "FP32", "shape": [1, 4], "data": FLOWER}]}

counts = Counts()
session = requests.Session()
for number in range(arguments.requests):
    sent, key = headers(arguments, number)
    if arguments.host:
        sent["Host"] = arguments.host
    try:
        answer = session.post(url, json=BODY, headers=sent)
        if answer.ok:
            counts.answer(answer.json()["model_version"], key)
        else:
            counts.error(answer.status_code, answer.text, answer.headers.get("mesh-error"))
    except requests.RequestException as error:
        counts.error(type(error).__name__, error)
counts.show()
