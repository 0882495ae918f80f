"""What the server and its clients call things over HTTP, beside the names of OpenAI's API.

In: nothing. Out: the names. `serve` speaks them, `ui` and `finetune` look for them, and so may any other client.

MODEL_NAME       the one model: in `/v1/models` and in every answer, whatever model a client asks for.
CONTRACT_HEADER  in every response, refusals too: the fingerprint (SHA-256) of the contract that the model keeps. What
                 does not send it is no MindPal server: it has neither the persona nor the guard.
PINNED_HEADER    in the answer to a conversation: the names of what the client sent to no effect, with commas between. `other`
                 stands for names that no header can hold, `others` at the end for those that are too many.
DROPPED_HEADER   there, too: how many of its messages the model was not shown, since they are beyond the window or were
                 answered by the guard. Absent where there are none.
GUARD_FIELD      no header, but a field beside `choices`, in the whole answer or in a stream's first and last chunk: what
                 the guard did, as {"action", "category", "layer"}. Absent where it did nothing.
"""

MODEL_NAME = "mindpal"
CONTRACT_HEADER = "x-mindpal-contract"
PINNED_HEADER = "x-mindpal-pinned"
DROPPED_HEADER = "x-mindpal-dropped"
GUARD_FIELD = "mindpal"
