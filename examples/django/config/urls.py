from django.urls import path

from guestbook import views

urlpatterns = [
    path("", views.index, name="index"),
    path("healthz", views.healthz),
]
