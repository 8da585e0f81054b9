"""Post a file as the comment on a pull request, or replace the comment that this script posted before.

    GITHUB_API_URL=… GITHUB_REPOSITORY=… GITHUB_TOKEN=… PR_NUMBER=… python .github/comment.py FILE

Only the standard library is used, so that the comment is posted even if nothing could be installed.
"""

import json
import os
import sys
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

MARKER = "<!-- the comparison of this pull request -->"  # hidden; how the next run finds the comment
CUT = "*This comment is cut: GitHub allows no longer one. The summary of the workflow run has all of it.*"
LIMIT = 65_536  # GitHub's, in characters
PAGE = 100  # GitHub's largest
NOT_ALLOWED = "the token may not write comments, as in pull requests from forks; the summary of the workflow run has it"


def comment_body(text: str) -> str:
    """Return the text of the comment. If it is too long and cut, its first line says so."""
    body = f"{MARKER}\n{text}"
    if len(body) <= LIMIT:
        return body
    # At the top: at the end, a table or a code block may be open.
    head = f"{MARKER}\n{CUT}\n\n"
    return head + text[: LIMIT - len(head)].rpartition("\n")[0]


def ask(method: str, url: str, token: str, content: object = None) -> Any:
    """Return the answer of GitHub's API."""
    data = None if content is None else json.dumps(content).encode()
    request = Request(url, data, {"Accept": "application/vnd.github+json"}, method=method)
    request.add_unredirected_header("Authorization", f"Bearer {token}")
    with urlopen(request, timeout=60) as response:
        return json.load(response)


def comments_on(issue: str, token: str) -> Iterator[dict[str, Any]]:
    """Yield all comments on a pull request, oldest first."""
    page = 1
    while comments := ask("GET", f"{issue}/comments?per_page={PAGE}&page={page}", token):
        yield from comments
        page += 1


def keep_comment(repository: str, number: str, token: str, body: str) -> str:
    """Post the comment, or edit the one of an earlier run. Return its URL."""
    for comment in comments_on(f"{repository}/issues/{number}", token):
        # A person who copies the marker keeps their own comment.
        by_bot = (comment["user"] or {}).get("type") == "Bot"  # the user of a deleted account is null
        if by_bot and comment["body"].startswith(MARKER):
            answer = ask("PATCH", f"{repository}/issues/comments/{comment['id']}", token, {"body": body})
            break
    else:
        answer = ask("POST", f"{repository}/issues/{number}/comments", token, {"body": body})
    return str(answer["html_url"])


def main() -> None:
    """Exit 0 with one line, even where comments are not allowed; exit 1 with one line for any other error."""
    names = ("GITHUB_API_URL", "GITHUB_REPOSITORY", "GITHUB_TOKEN", "PR_NUMBER")
    if unset := [name for name in names if not os.environ.get(name)]:
        sys.exit(f"comment: {', '.join(unset)} not set")
    api, repository, token, number = (os.environ[name].strip() for name in names)
    try:
        body = comment_body(Path(sys.argv[1]).read_text(encoding="utf-8"))
        line = keep_comment(f"{api}/repos/{repository}", number, token, body)
    except HTTPError as error:
        error.close()
        if error.code != 403 or error.headers.get("x-ratelimit-remaining") == "0" or error.headers.get("retry-after"):
            sys.exit(f"comment: GitHub answered {error.code} {error.reason}")
        line = NOT_ALLOWED
    except (OSError, HTTPException, ValueError) as error:
        sys.exit(f"comment: {error}".replace(token, "***"))
    sys.stdout.write(f"comment: {line}\n")


if __name__ == "__main__":
    main()
