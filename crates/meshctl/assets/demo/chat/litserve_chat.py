"""An OpenAI-compatible chat server on LitServe, where llama-server cannot be had: litserve_chat.py HOST PORT

It repeats the words of the prompt, `max_tokens` of them, with a pause between tokens as a small model has.
"""

import itertools
import multiprocessing
import os
import signal
import sys
import time

import litserve

SECONDS_PER_TOKEN = 0.002
DEFAULT_TOKENS = 16


class Repeat(litserve.LitAPI):
    def setup(self, device):
        pass

    def decode_request(self, request):
        words = str(request.messages[-1].content).split() or ["token"]
        count = request.max_completion_tokens or request.max_tokens or DEFAULT_TOKENS
        return words, count, request.stream

    def predict(self, prompt):
        words, count, stream = prompt
        answer = []
        for word in itertools.islice(itertools.cycle(words), count):
            time.sleep(SECONDS_PER_TOKEN)
            answer.append(word + " ")
            if stream:
                yield answer[-1], len(words), len(answer)
        # LitServe takes the last piece's usage of a stream, but adds up all pieces' of a whole answer: give it one.
        if not stream:
            yield "".join(answer), len(words), len(answer)

    def encode_response(self, pieces):
        for content, prompt_tokens, completion_tokens in pieces:
            yield {
                "role": "assistant",
                "content": content,
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "total_tokens": prompt_tokens + completion_tokens,
            }


def stop(*_):
    """LitServe's own handling of SIGTERM leaves its worker and its manager process behind."""
    for child in multiprocessing.active_children():
        child.kill()
        child.join()
    os._exit(0)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, stop)
    server = litserve.LitServer(Repeat(spec=litserve.OpenAISpec()), accelerator="cpu")
    server.run(
        host=sys.argv[1],
        port=int(sys.argv[2]),
        generate_client_file=False,
        log_level="warning",
        api_server_worker_type="thread",
    )
