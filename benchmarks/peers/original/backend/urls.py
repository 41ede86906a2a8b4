from django.urls import path
from dreams import views

urlpatterns = [
    path("api/auth/register", views.register),
    path("api/auth/login", views.login),
    path("api/dreams", views.create_dream),
    path("api/dreams/<int:dream_id>", views.dream_detail),
]
