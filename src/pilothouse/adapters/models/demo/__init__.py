"""The demo model: a scripted stand-in for the model endpoint, spoken to over HTTP only.

It is no model. It answers the Anthropic Messages wire (`POST /v1/messages` with and without `stream`,
`POST /v1/messages/count_tokens`, `GET /v1/models`, `HEAD /`), so that a real agent can be seen at work, and tested,
without a key. It keeps no conversation: the last prompt in the request names the scene, and the number of answers since
that prompt is the step. Resuming, retrying and many sessions at once need no set-up.

Natural prompts (`scenes`): write a small program and run it; find and fix a bug; ask a question; make a plan.
Anything else is answered with what this is and how to connect a model.

Scripts, for tests: a fenced block whose info string is `demo`, or lines that start with `demo:`, in the prompt. One
statement a line; `#` starts a comment line. `<<WORD` at the end of a line takes the following lines up to `WORD` as the
last argument; elsewhere `\\n`, `\\t` and `\\\\` are escapes. Paths are relative to the agent's working directory.

    say TEXT                     text, streamed; `say` after `say` is a second block of the same answer
    text N                       N words of filler
    think TEXT                   a thinking block
    write PATH CONTENT           the agent's tool for writing a file
    edit PATH OLD => NEW         ... for changing one
    read PATH                    ... for reading one
    bash COMMAND                 ... for running a command
    ask QUESTION | OPTION | ...  ... for asking the person
    todo ITEM | ITEM ...         ... for its list of things to do
    plan TEXT                    writes the plan file, then shows the plan for approval
    agent PROMPT                 a sub-agent (its prompt may hold `demo:` lines)
    call NAME JSON               any tool by its own name
    + STATEMENT                  a further tool call in the same answer; without the `+` each call ends its answer
    stop REASON                  ends the answer with this stop_reason
    hold NAME                    waits here until released (standalone server only, elsewhere nothing)
    delay SECONDS                waits here
    hang                         says nothing more, for ever
    cut [TIMES]                  drops the connection here, the first TIMES (default 1) times this answer is asked for
    garbage                      sends bytes that are no event here
    error STATUS [TIMES] [RETRY_AFTER]
                                 answers with this HTTP status instead, the first TIMES times (default: always)

`hold`, `delay`, `hang`, `cut` and `garbage` act where they stand in the stream, `error` before it. A script that ends
with a tool call gets a last answer, "Done.".

The standalone server (`python -m pilothouse.adapters.models.demo --port N [--port-file F] [--pace SECONDS]`) also has
`POST /demo/release/NAME` and `GET /demo/calls` -> `{"calls", "streams", "open", "hangups", "waiting": [NAME],
"log": [{"n", "path", "stream", "model", "session", "prompt", "step", "ended"}]}`; `ended` is `open`, `done`, `hangup`,
`cut` or `error STATUS`.
"""

from pilothouse.adapters.models.demo.app import application

__all__ = ["application"]
