from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from guestbook.models import Entry

GREETING = "Who was here?"


@require_http_methods(["GET", "POST"])
def index(request: HttpRequest) -> HttpResponse:
    if request.method == "POST":
        Entry.objects.create(text=request.POST["text"][:200])
        return redirect("index")
    return render(request, "guestbook/index.html", {"greeting": GREETING, "entries": Entry.objects.all()[:20]})


@require_GET
def healthz(request: HttpRequest) -> HttpResponse:
    """Each new worker must answer it before it gets requests."""
    connection.ensure_connection()
    return HttpResponse("ok")
