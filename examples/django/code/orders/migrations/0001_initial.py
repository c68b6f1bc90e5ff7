from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True
    operations = [
        migrations.CreateModel(
            "Order",
            [
                ("id", models.AutoField(primary_key=True)),
                ("item", models.CharField(max_length=100)),
                ("paid", models.BooleanField(default=False)),
            ],
        )
    ]
