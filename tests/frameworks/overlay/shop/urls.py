from django.urls import path
from orders import views

urlpatterns = [
    path("orders/", views.create),
    path("orders/broken/", views.broken),
    path("orders/<int:number>/", views.show),
    path("results/<str:task_id>/", views.result),
]
