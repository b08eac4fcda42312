"""OpenAI's own client: chat completions, streamed with usage, or whole with --no-stream.

The address is a base URL such as http://127.0.0.1:8080/v1; the client honours HTTP_PROXY. Also printed: `chunks`
(pieces with content), `prompt_tokens` and `completion_tokens` (added up over the calls), `without_usage`.
"""

import openai

from counts import Counts, flags, headers

parser = flags(__doc__, "base URL, with its /v1")
parser.add_argument("--model", default="chat")
parser.add_argument("--tokens", type=int, default=16, help="max_tokens of each call")
parser.add_argument("--no-stream", action="store_true")
arguments = parser.parse_args()

MESSAGES = [{"role": "user", "content": "the mesh routes each request"}]
counts = Counts()
client = openai.OpenAI(base_url=arguments.address, api_key="none", max_retries=0)


def chat(sent):
    """One call. Returns the model that answered and the usage, which is None where the server told none."""
    asked = {"model": arguments.model, "messages": MESSAGES, "max_tokens": arguments.tokens, "extra_headers": sent}
    if arguments.no_stream:
        answer = client.chat.completions.create(**asked)
        return answer.model, answer.usage
    model, usage = None, None
    for chunk in client.chat.completions.create(**asked, stream=True, stream_options={"include_usage": True}):
        model, usage = chunk.model, chunk.usage or usage
        counts.more["chunks"] += any(choice.delta.content for choice in chunk.choices)
    return model, usage


for number in range(arguments.requests):
    sent, key = headers(arguments, number)
    if arguments.host:
        sent["Host"] = arguments.host
    try:
        model, usage = chat(sent)
        counts.answer(model, key)
        counts.more["without_usage"] += usage is None
        if usage is not None:
            counts.more["prompt_tokens"] += usage.prompt_tokens
            counts.more["completion_tokens"] += usage.completion_tokens
    except openai.APIStatusError as error:
        counts.error(error.status_code, error.message, error.response.headers.get("mesh-error"))
    except Exception as error:  # A stream that breaks off raises the HTTP library's own errors.
        counts.error(type(error).__name__, error)
counts.show()
